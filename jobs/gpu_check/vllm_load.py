"""vLLM under load: the platform's engine on it beside vLLM alone, with the same settings and the same requests."""

import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import torch

from jobs.gpu_check.machine import Figures
from llama_platform.device import assigned_gpus
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.gpu_memory import GIB, plan_memory, read_shape
from llama_platform.inference.protocol import GenerationRequest, SamplingParams, TokenEvent
from llama_platform.inference.vllm_settings import adapter_places, adapter_rank, vllm_arguments
from llama_platform.models.base_model import BaseConfig, load_template
from llama_platform.models.random_base import write_random_base

PROMPT, ANSWER = 256, 128
"""Tokens of each request."""
Generate = Callable[[int], AsyncIterator[int]]
"""Answers the request of a number; yields how many tokens have come."""


def measure_shape(shape: dict[str, int], seconds: float, clients: int) -> Figures:
    """Measure a base of a shape on this task's GPUs, or its CPU; what a Ray task calls; see `measure_vllm`."""
    config = EngineConfig(max_running=clients, max_step_tokens=2048, max_adapter_rank=64, context_length=512)
    with tempfile.TemporaryDirectory() as folder:
        return measure_vllm(write_random_base(shape, Path(folder)), config, seconds, clients, assigned_gpus())


def measure_vllm(folder: Path, config: EngineConfig, seconds: float, clients: int, gpus: int = 0) -> Figures:
    """Start both, one after the other, load each for a while, and return what was seen.

    Args:
        folder: a base that `write_random_base` has written.
        config: the engine's.
        seconds: how long each is under load.
        clients: requests at the same time; each is followed by the next.
        gpus: how many the base is spread over; 0 for the processor.
    """
    base = BaseConfig(model=str(folder), prompt_style="plain", dtype="bfloat16")
    found: Figures = {}
    for name, measure in (("ours", _measure_ours), ("bare", _measure_bare)):
        figures = asyncio.run(measure(base, config, seconds, clients, gpus))
        found |= {f"{name}_{key}": value for key, value in figures.items()}
    found["vs_bare"] = round(found["ours_tokens_per_s"] / found["bare_tokens_per_s"], 3)
    if gpus:
        total = torch.cuda.get_device_properties(0).total_memory / GIB
        plan = plan_memory(read_shape(str(folder)), total, gpus, adapter_places(config), adapter_rank(config))
        found["planned_kv_gib"] = round(plan.kv_cache / GIB, 2)
    return found


async def _measure_ours(base: BaseConfig, config: EngineConfig, seconds: float, clients: int, gpus: int) -> Figures:
    from llama_platform.inference.vllm_engine import VllmEngine

    begun = time.perf_counter()
    tokenizer = load_template(base).tokenizer
    engine = await asyncio.to_thread(VllmEngine, base, tokenizer, config, gpus)
    ready = time.perf_counter() - begun
    vocabulary = read_shape(base.location())["vocab_size"]

    async def generate(number: int) -> AsyncIterator[int]:
        sampling = SamplingParams(max_new_tokens=ANSWER, temperature=0.0, ignore_eos=True)
        prompt = _prompt(number, vocabulary)
        request = GenerationRequest(request_id=f"r{number}", prompt_ids=prompt, sampling=sampling)
        async for event in engine.generate(request):
            if isinstance(event, TokenEvent):
                yield len(event.token_ids)

    try:
        return {"start_s": round(ready, 1), **await _load(generate, seconds, clients)}
    finally:
        await engine.close()


async def _measure_bare(base: BaseConfig, config: EngineConfig, seconds: float, clients: int, gpus: int) -> Figures:
    from vllm import SamplingParams as VllmSampling
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine.async_llm import AsyncLLM

    folder, begun = Path(base.location()), time.perf_counter()
    arguments = vllm_arguments(folder, base, config, max(1, gpus))
    llm: Any = await asyncio.to_thread(AsyncLLM.from_engine_args, AsyncEngineArgs(**arguments))
    ready, shape = time.perf_counter() - begun, read_shape(str(folder))
    sampling = VllmSampling(
        max_tokens=ANSWER, temperature=0.0, ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )

    async def generate(number: int) -> AsyncIterator[int]:
        prompt = {"prompt_token_ids": list(_prompt(number, shape["vocab_size"]))}
        async for output in llm.generate(prompt, sampling, f"b{number}"):
            yield len(output.outputs[0].token_ids)

    try:
        figures = {"start_s": round(ready, 1), **await _load(generate, seconds, clients)}
        cache = llm.vllm_config.cache_config
        if cache.num_gpu_blocks:
            per_token = plan_memory(shape, 0.0, max(1, gpus)).kv_per_token
            figures["kv_gib"] = round(cache.num_gpu_blocks * cache.block_size * per_token / GIB, 2)
        return figures
    finally:
        await asyncio.to_thread(llm.shutdown)


async def _load(generate: Generate, seconds: float, clients: int) -> Figures:
    """Return tokens per second and the times of first tokens; one round before the clock starts warms up."""
    firsts: list[float] = []
    tokens, number = 0, 0

    async def ask() -> None:
        nonlocal tokens, number
        number += 1
        begun, first = time.perf_counter(), True
        async for count in generate(number):
            tokens += count
            if first and count:
                firsts.append(time.perf_counter() - begun)
                first = False

    async def client(end: float) -> None:
        while time.perf_counter() < end:
            await ask()

    await asyncio.gather(*(ask() for _ in range(clients)))
    firsts.clear()
    tokens, begun = 0, time.perf_counter()
    await asyncio.gather(*(client(begun + seconds) for _ in range(clients)))
    return {
        "tokens_per_s": round(tokens / (time.perf_counter() - begun), 1),
        "first_token_p50_ms": round(1000 * statistics.median(firsts), 1),
        "first_token_worst_ms": round(1000 * max(firsts), 1),
    }


def _prompt(number: int, vocabulary: int) -> tuple[int, ...]:
    choose = random.Random(number)
    return tuple(choose.randrange(3, vocabulary) for _ in range(PROMPT))
