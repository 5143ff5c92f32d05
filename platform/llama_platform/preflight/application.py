"""The application's file: whether its base fits, who may ask, and how long requests may take."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from llama_platform.access.quotas import MEMORY
from llama_platform.config import read_yaml
from llama_platform.errors import InputError, PlatformError
from llama_platform.inference.gpu_memory import BASES, GIB, check_fits, gpu_gib, plan_memory, read_shape
from llama_platform.models.stored_base import is_stored
from llama_platform.ports import is_loopback
from llama_platform.preflight.findings import Finding

BALANCER_IDLE_S = 60
"""A load balancer of AWS ends a connection that is silent for so long, unless told otherwise."""
HUB_SHAPES = {f"meta-llama/Llama-2-{size}{chat}-hf": size for size in BASES for chat in ("", "-chat")}


def read_application(file: Path) -> dict[str, Any]:
    """Return the settings of an application's file, or of the file of `serve deploy` that names it, as groups.

    Raises:
        InputError: it cannot be read.
    """
    found = read_yaml(file)
    if "applications" not in found:
        return {"http_options": {}, **found}
    try:
        arguments = dict(found["applications"][0].get("args") or {})
    except (IndexError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: is no file of `serve deploy`: applications[0].args is not there") from error
    beside = arguments.pop("config", None)
    base = read_yaml(file.parent / str(beside)) if beside else {}
    return {"http_options": found.get("http_options") or {}, **_merged(base, arguments)}


def check_application(settings: Mapping[str, Any], gpu: str | None, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at the settings of an application.

    Args:
        settings: as `read_application` returns them.
        gpu: a GPU by name, or its memory in GiB; None where that of the nodes is not known.
        environ: environment variables, for the hub's token.
    """
    yield from _base(settings, environ)
    yield from _memory(settings, gpu)
    yield from _access(settings)
    yield from _times(settings)


def _base(settings: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[Finding]:
    model = str(_of(settings, "base.model", "meta-llama/Llama-2-7b-hf"))
    if model.startswith("meta-llama/") and not environ.get("HF_TOKEN"):
        text = f"{model} is gated: every node needs HF_TOKEN, or the base in a folder that base.model names"
        yield Finding("warning", "base", text)
    elif is_stored(model):
        yield Finding("ok", "base", f"{model}: each node copies it; the nodes' role must be allowed to read it")
    elif "/" in model and model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        yield Finding("error", "base", f"{model}: is no folder of this machine")
    else:
        yield Finding("ok", "base", model)


def _memory(settings: Mapping[str, Any], gpu: str | None) -> Iterator[Finding]:
    model = str(_of(settings, "base.model", "meta-llama/Llama-2-7b-hf"))
    gpus = float(_of(settings, "llama.num_gpus", 0))
    try:
        shape = read_shape(HUB_SHAPES.get(model, model))
    except InputError:
        yield Finding("ok", "memory", f"the shape of {model} is not known here; `llama-platform fit` takes a folder")
        return
    rank = int(_of(settings, "engine.max_adapter_rank", None) or 64)
    if gpus:
        yield _on_gpus(settings, shape, gpu, max(1, int(gpus)), rank)
        return
    plan = plan_memory(shape, 0, 1, 0, rank, "int8" if _of(settings, "engine.weights", "base") == "int8" else "none")
    weights = plan.weights * (2 if _of(settings, "base.dtype", "bfloat16") == "float32" else 1)
    total = psutil.virtual_memory().total
    text = f"{weights / GIB:.1f} GiB of weights, and {total / GIB:.1f} GiB in this machine"
    if weights > total:
        yield Finding("error", "memory", f"{text}: take engine.weights: int8, a smaller base, or larger machines")
    else:
        yield Finding("ok", "memory", text)


def _on_gpus(settings: Mapping[str, Any], shape: Mapping[str, int], gpu: str | None, gpus: int, rank: int) -> Finding:
    if gpu is None:
        return Finding("warning", "memory", "which GPU the nodes have is not known: give --gpu, such as A10G")
    adapters = int(_of(settings, "engine.vllm.max_loras", 8))
    quantized = {"fp8": "fp8", "bitsandbytes": "int4"}.get(_of(settings, "engine.vllm.quantization", ""), "none")
    cache = 1 if _of(settings, "engine.vllm.kv_cache_dtype", "auto") == "fp8" else 2
    share = float(_of(settings, "engine.vllm.gpu_memory_utilization", 0.9))
    try:
        check_fits(shape, gpu_gib(gpu), gpus, adapters, rank, quantized, cache, share)  # type: ignore[arg-type]
    except PlatformError as error:
        return Finding("error", "memory", str(error))
    return Finding("ok", "memory", f"fits {gpus} × {gpu} with {adapters} adapters of rank {rank}")


def _access(settings: Mapping[str, Any]) -> Iterator[Finding]:
    host, mode = str(_of(settings, "http_options.host", "127.0.0.1")), str(_of(settings, "auth.mode", "none"))
    if mode != "none":
        yield Finding("ok", "access", f"auth.mode is {mode}")
    elif is_loopback(host):
        yield Finding("ok", "access", f"no keys, and it listens at {host} only")
    elif _of(settings, "auth.allow_open", False):
        text = f"no keys, and it listens at {host}: what stands before it must ask for them"
        yield Finding("warning", "access", text)
    else:
        text = f"no keys, and it listens at {host}: it will not start; set auth.mode: keys"
        yield Finding("error", "access", text)
    several = max(int(_of(settings, f"ingress.{key}_replicas", 1)) for key in ("min", "max")) > 1
    if several and mode != "none" and str(_of(settings, "limits.storage", MEMORY)) == MEMORY:
        yield Finding("error", "limits", "several ingress replicas count use together in Redis only: limits.storage")


def _times(settings: Mapping[str, Any]) -> Iterator[Finding]:
    heartbeat, most = float(_of(settings, "heartbeat_s", 15)), float(_of(settings, "limits.request_timeout_s", 120))
    if heartbeat >= BALANCER_IDLE_S:
        text = f"heartbeat_s {heartbeat:g}: a load balancer ends a silent stream after {BALANCER_IDLE_S} s; take 15"
        yield Finding("error", "idle time-out", text)
    elif most > BALANCER_IDLE_S:
        text = (
            f"an answer that is not streamed may take {most:g} s (limits.request_timeout_s), and load balancers end "
            f"silent connections after {BALANCER_IDLE_S} s: raise theirs (the templates set 130), or stream"
        )
        yield Finding("warning", "idle time-out", text)
    else:
        yield Finding("ok", "idle time-out", f"requests end within {most:g} s, streams speak every {heartbeat:g} s")


def _of(settings: Mapping[str, Any], path: str, default: Any) -> Any:
    found: Any = settings
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return default
        found = found[part]
    return found


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged
