"""Memory of the engine in a process of its own: after its imports, while loading, and after 100 steps.

    python -m benchmarks.engine_memory MODEL

prints one JSON object, in MB (10⁶ bytes): the peak while loading and what is resident in the end, both above the same
process after its imports, and the same without the weights and the KV cache that was touched.
"""

import asyncio
import json
import sys
from pathlib import Path


def main() -> None:
    """Load, generate and print."""
    from transformers import AutoTokenizer

    import llama_platform.inference.torch_engine.cpu.model  # noqa: F401 - one of the imports
    from llama_platform.inference.config import EngineConfig
    from llama_platform.inference.protocol import GenerationRequest, SamplingParams
    from llama_platform.inference.torch_engine.engine import TorchEngine
    from llama_platform.models.base_model import BaseConfig

    model = Path(sys.argv[1])
    tokenizer = AutoTokenizer.from_pretrained(model)
    before = resident_mb()
    config = EngineConfig(max_running=8, context_length=1024, kv_cache_mib=256)
    engine = TorchEngine(BaseConfig(model=str(model)), tokenizer, 2, config)
    peak = resident_mb("VmHWM") - before

    async def generate() -> None:
        async def one(number: int) -> None:
            sampling = SamplingParams(temperature=0.8, seed=number, max_new_tokens=100, ignore_eos=True)
            prompt = tuple(range(10 + number, 200 + number))
            request = GenerationRequest(request_id=str(number), prompt_ids=prompt, sampling=sampling)
            async for _ in engine.generate(request):
                pass

        await asyncio.gather(*(one(number) for number in range(8)))

    asyncio.run(generate())
    memory = engine.stats().memory
    after = resident_mb() - before
    # Pages of the cache that no sequence has touched are not resident.
    touched = 8 * -(-290 // 32) / engine._pool.pages
    weights, kv = memory["weight_bytes"] / 1e6, memory["kv_cache_bytes"] * touched / 1e6
    figures = {"weights_mb": weights, "kv_mb": kv, "load_peak_mb": peak, "overhead_mb": after - weights - kv}
    print(json.dumps(figures))
    asyncio.run(engine.close())


def resident_mb(field: str = "VmRSS") -> float:
    """Return the resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no {field} in /proc/self/status")


if __name__ == "__main__":
    main()
