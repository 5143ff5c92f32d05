"""The contestants of `benchmarks.engine`: each is a process that answers commands, one line of JSON each.

    python -m benchmarks.engine_contestants NAME MODEL [OPTIONS]

Commands are `generate` (all prompts at once, greedy, a fixed number of tokens) and, where a contestant can take
requests while it runs, `serve` (requests that arrive at given times). Answers hold seconds and tokens.
"""

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

THREADS = 2
Prompts = list[list[int]]


def main() -> None:
    """Answer commands from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to stderr
    name, model, options = sys.argv[1], Path(sys.argv[2]), json.loads((sys.argv[3:] or ["{}"])[0])
    contestant = CONTESTANTS[name](model, **options)
    print(json.dumps({"ready": name}), file=answers, flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        result = getattr(contestant, command.pop("do"))(**command)
        print(json.dumps(result), file=answers, flush=True)
    if hasattr(contestant, "close"):
        contestant.close()


class Async:
    """What the two engines with an asynchronous interface share: the clients."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._count = 0
        self.schema: str | None = None
        """JSON schema that answers are held to; None for free text."""

    def generate(
        self, prompts: Prompts, new: int, adapters: list[int | None] | None = None, schema: str | None = None
    ) -> dict[str, Any]:
        """Answer all prompts at once."""
        self.schema = schema
        requests = [(0.0, prompt, new) for prompt in prompts]
        return self._loop.run_until_complete(self._all(requests, adapters or [None] * len(prompts)))

    def serve(self, requests: list[tuple[float, list[int], int]]) -> dict[str, Any]:
        """Answer requests that arrive after so many seconds."""
        return self._loop.run_until_complete(self._all(requests, [None] * len(requests)))

    async def _all(self, requests: list[Any], adapters: list[int | None]) -> dict[str, Any]:
        start = time.perf_counter()
        answers = await asyncio.gather(
            *(
                self._one(start, at, prompt, new, adapter)
                for (at, prompt, new), adapter in zip(requests, adapters, strict=True)
            )
        )
        return {
            "seconds": time.perf_counter() - start,
            "tokens": [tokens for tokens, _ in answers],
            "times": [times for _, times in answers],
        }

    async def _one(
        self, start: float, at: float, prompt: list[int], new: int, adapter: int | None
    ) -> tuple[list[int], list[float]]:
        await asyncio.sleep(max(0.0, start + at - time.perf_counter()))
        self._count += 1
        tokens: list[int] = []
        times: list[float] = []
        async for ids in self.stream(str(self._count), prompt, new, adapter):
            tokens += ids
            times += [time.perf_counter() - start] * len(ids)
        return tokens, times

    def stream(self, name: str, prompt: list[int], new: int, adapter: int | None) -> Any:
        """Yield tokens as they come."""
        raise NotImplementedError


class Ours(Async):
    """TorchEngine."""

    def __init__(
        self, model: Path, dtype: str = "bfloat16", weights: str = "base", adapters: int = 0, prefix: bool = False,
        kernels: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        from transformers import AutoTokenizer

        from llama_platform.inference.config import EngineConfig
        from llama_platform.inference.torch_engine import loader
        from llama_platform.inference.torch_engine.engine import TorchEngine
        from llama_platform.models.base_model import BaseConfig

        if not kernels:
            loader._on_cpu_kernels = lambda *_: None
        config = EngineConfig(max_running=24, kv_cache_mib=1024, weights=weights, prefix_cache=prefix)  # type: ignore[arg-type]
        base = BaseConfig(model=str(model), dtype=dtype)  # type: ignore[arg-type]
        self.engine = TorchEngine(base, AutoTokenizer.from_pretrained(model), THREADS, config)
        for number in range(adapters):
            self._loop.run_until_complete(self.engine.load_adapter(str(number), model / f"adapter{number}"))

    async def stream(self, name: str, prompt: list[int], new: int, adapter: int | None) -> Any:
        """Yield tokens as they come."""
        from llama_platform.inference.protocol import FinishEvent, GenerationRequest, SamplingParams
        from llama_platform.inference.structure import Structure

        structure = Structure("json", self.schema) if self.schema else None
        sampling = SamplingParams(temperature=0.0, max_new_tokens=new, ignore_eos=True, structure=structure)
        digest = None if adapter is None else str(adapter)
        request = GenerationRequest(request_id=name, prompt_ids=tuple(prompt), sampling=sampling, adapter_digest=digest)
        async for event in self.engine.generate(request):
            if isinstance(event, FinishEvent):
                assert event.reason == "length", event
            else:
                yield event.token_ids

    def read(self) -> dict[str, Any]:
        """Return the best rate, in GB/s, at which anything in this process reads the weights."""
        limit = self.engine.reading()
        assert limit is not None
        return {"gbytes": limit.gbytes_per_s}

    def logits(self, prompt: list[int]) -> dict[str, Any]:
        """Return the logits after each token of a prompt."""
        from llama_platform.inference.torch_engine.batch import Chunk, arrange

        rows = []
        for place, token in enumerate(prompt):
            chunk = Chunk([token], place, list(range(place // 32 + 1)))
            rows.append(self.engine._model.forward(arrange([chunk]), [])[0].tolist())
        return {"logits": rows}

    def close(self) -> None:
        """Stop the engine."""
        self._loop.run_until_complete(self.engine.close())


class Vllm(Async):
    """vLLM's AsyncLLM on the CPU, in its own environment."""

    def __init__(self, model: Path, adapters: int = 0) -> None:
        super().__init__()
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = AsyncEngineArgs(
            model=str(model), dtype="bfloat16", max_model_len=2048, max_num_seqs=24, kv_cache_memory_bytes=2**30,
            enable_prefix_caching=False, enable_lora=adapters > 0, max_loras=max(1, adapters), max_lora_rank=16,
            disable_log_stats=True,
        )  # fmt: skip
        self._model, self._adapters = model, adapters
        self.engine = AsyncLLM.from_engine_args(arguments)

    async def stream(self, name: str, prompt: list[int], new: int, adapter: int | None) -> Any:
        """Yield tokens as they come."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        params = SamplingParams(
            temperature=0.0, max_tokens=new, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA,
            structured_outputs=StructuredOutputsParams(json=self.schema) if self.schema else None,
        )  # fmt: skip
        lora = (
            None if adapter is None else LoRARequest(str(adapter), adapter + 1, str(self._model / f"adapter{adapter}"))
        )
        async for output in self.engine.generate({"prompt_token_ids": prompt}, params, name, lora_request=lora):
            yield output.outputs[0].token_ids

    def close(self) -> None:
        """Stop the engine."""
        self.engine.shutdown()


class Transformers:
    """transformers' `generate`, with PEFT's `adapter_names` where there are adapters."""

    def __init__(self, model: Path, adapters: int = 0, dtype: str = "bfloat16") -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        self.torch, self._path = torch, model
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
        if adapters:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, model / "adapter0", adapter_name="0")
            for number in range(1, adapters):
                self.model.load_adapter(model / f"adapter{number}", adapter_name=str(number))
            self.model = self.model.eval()

    def generate(self, prompts: Prompts, new: int, adapters: list[int | None] | None = None) -> dict[str, Any]:
        """Answer prompts of one length at once."""
        ids = self.torch.tensor(prompts)
        extra = {"adapter_names": [str(a) for a in adapters]} if adapters else {}
        start = time.perf_counter()
        out = self.model.generate(
            input_ids=ids, attention_mask=self.torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new,
            do_sample=False, pad_token_id=0, **extra,
        )  # fmt: skip
        return {"seconds": time.perf_counter() - start, "tokens": out[:, ids.shape[1] :].tolist()}

    def score(self, prompts: Prompts, answers: Prompts) -> dict[str, Any]:
        """Return how far below the best each answer's tokens are, in standard deviations of the logits; the worst."""
        worst = 0.0
        for prompt, answer in zip(prompts, answers, strict=True):
            logits = self.model(self.torch.tensor([prompt + answer[:-1]])).logits[0, len(prompt) - 1 :].float()
            chosen = logits[self.torch.arange(len(answer)), self.torch.tensor(answer)]
            worst = max(worst, ((logits.amax(1) - chosen) / logits.std(1)).max().item())
        return {"worst": worst}


class ContinuousBatching(Transformers):
    """transformers' continuous batching."""

    def generate(self, prompts: Prompts, new: int, adapters: list[int | None] | None = None) -> dict[str, Any]:
        """Answer prompts at once."""
        from transformers import ContinuousBatchingConfig, GenerationConfig

        generation = GenerationConfig(max_new_tokens=new, do_sample=False, eos_token_id=-1, pad_token_id=0)
        batching = ContinuousBatchingConfig(
            page_size=32, num_blocks=256, max_batch_tokens=1024, auto_switch_to_flash=False, allow_block_sharing=False
        )
        start = time.perf_counter()
        out = self.model.generate_batch(prompts, generation, batching)
        seconds = time.perf_counter() - start
        by_prompt = {tuple(o.prompt_ids): o.generated_tokens for o in out.values()}
        return {"seconds": seconds, "tokens": [by_prompt[tuple(prompt)] for prompt in prompts]}


class LlamaCpp:
    """llama.cpp's server, in this process."""

    def __init__(self, model: Path) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(model / "model.gguf")
        params.n_ctx, params.n_parallel, params.n_batch, params.n_ubatch = 16 * 256, 16, 512, 512
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
        params.cache_prompt, params.n_gpu_layers, params.warmup = False, 0, True
        params.cont_batching = True
        self._server = xllamacpp.Server(params)

    def generate(self, prompts: Prompts, new: int, adapters: list[int | None] | None = None) -> dict[str, Any]:
        """Answer all prompts at once, a thread for each."""
        answers: list[Any] = [None] * len(prompts)

        def one(place: int) -> None:
            found = self._server.handle_completions(
                {
                    "prompt": prompts[place],
                    "n_predict": new,
                    "temperature": 0,
                    "ignore_eos": True,
                    "cache_prompt": False,
                }
            )
            # The words of the vocabulary are named after their tokens.
            answers[place] = [int(word) for word in found["choices"][0]["text"].split("w")[1:]]

        threads = [threading.Thread(target=one, args=(place,)) for place in range(len(prompts))]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"seconds": time.perf_counter() - start, "tokens": answers}


CONTESTANTS = {
    "ours": Ours,
    "vllm": Vllm,
    "transformers": Transformers,
    "transformers_cb": ContinuousBatching,
    "llamacpp": LlamaCpp,
}

if __name__ == "__main__":
    main()
