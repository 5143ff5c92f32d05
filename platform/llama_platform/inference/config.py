"""Configuration of an engine: memory, batch and queue."""

from typing import Annotated, Any, Literal

from pydantic import Field

from llama_platform.config import Config

Positive = Annotated[int, Field(ge=1)]


class VllmConfig(Config):
    """What only vLLM is told; an engine of our own refuses it."""

    max_loras: Annotated[int, Field(ge=1, le=256)] = 8
    """Different adapters that a step can use; memory of `engine.max_adapter_rank` is reserved for each."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Share of each GPU's memory that vLLM takes."""
    quantization: Literal["fp8", "bitsandbytes"] | None = None
    """How the weights of a base of 16 bits are held: `fp8` 8 bits, `bitsandbytes` 4. None for as they are stored, which
    is also for bases that were quantised before, by AWQ or GPTQ: their config.json says so."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """How keys and values are held: `auto` as the weights' precision, `fp8` 8 bits."""
    speculative: dict[str, Any] | None = None
    """vLLM's `speculative_config`, such as {method: ngram, num_speculative_tokens: 3, prompt_lookup_max: 4}; None for
    no speculation."""


class EngineConfig(Config):
    """How much an engine takes on at once, and what memory that may cost."""

    kind: Literal["auto", "torch", "vllm"] = "auto"
    """`torch` is our own, for CPUs; `vllm` needs the extra of that name; `auto` is vllm where a replica has a GPU and
    torch where it has none."""
    max_running: Annotated[int, Field(ge=1, le=256)] = 16
    """Requests that generate at the same time."""
    max_waiting: Annotated[int, Field(ge=0)] = 64
    """Requests that may wait for that; more are refused with 503."""
    max_waiting_tokens: Positive | None = None
    """Tokens that prompts and answers of waiting requests may have together; None for as many as `max_waiting` have."""
    context_length: Positive | None = None
    """Tokens of prompt and answer together; None for what the base was trained for."""
    kv_cache_mib: Positive | None = None
    """Memory for keys and values; None for what the running requests can fill, at most a quarter of the free memory
    of the machine."""
    max_step_tokens: Annotated[int, Field(ge=16)] = 512
    """Prompt tokens that one step computes at most."""
    prefix_cache: bool = True
    """Whether the beginning that prompts share, such as a system prompt, is computed once."""
    weights: Literal["base", "int8"] = "base"
    """`int8` holds weights in 8 bits on a CPU: half the memory of bfloat16 and up to twice the speed."""
    products: Literal["auto", "vector", "matrix"] = "auto"
    """What multiplies on a CPU: its vector units or, where it has one, its matrix unit (Intel AMX); `auto` times both
    when the base is loaded, in about a second."""
    adapter_memory_mib: Positive | None = None
    """Memory for loaded adapters, in MiB; the least recently used is evicted first. None for four adapters of rank 64
    on every projection, 1.2 GiB of a 7B base in 16 bits, and at least 512 MiB."""
    max_adapter_rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Adapters of a higher rank are refused. None for 256 with our engine; vLLM, which reserves memory for it, is given
    the highest rank that an alias names when a replica starts, or 64 where that cannot be told."""
    vllm: VllmConfig = VllmConfig()
    """What only vLLM is told."""
