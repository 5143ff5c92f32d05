"""Queue bounds: who may wait for an engine."""

from collections.abc import Sequence

from llama_platform.errors import InputError, OverloadedError
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.protocol import GenerationRequest


def check_queue(
    config: EngineConfig, request: GenerationRequest, queued: Sequence[GenerationRequest], free: int
) -> None:
    """Check that a request may wait.

    Args:
        config: the engine's.
        request: the one that arrives.
        queued: those that wait already, or will be begun with the next step.
        free: how many of these can be begun at once.

    Raises:
        OverloadedError: too many wait, their tokens are too many, or its tenant has half of the places.
        InputError: it has more tokens than may wait at all.
    """
    if len(queued) >= config.max_waiting + free:
        raise OverloadedError(f"{len(queued)} requests are waiting already; try again in a moment")
    own = sum(other.tenant == request.tenant for other in queued)
    if request.tenant and own >= max(1, config.max_waiting // 2) + free:
        raise OverloadedError(f"{own} requests of this tenant are waiting already; try again in a moment")
    if config.max_waiting_tokens is not None:
        needed = _tokens(request)
        if needed > config.max_waiting_tokens:
            raise InputError(f"prompt and answer have {needed} tokens; at most {config.max_waiting_tokens} may wait")
        waiting = sum(map(_tokens, queued))
        if len(queued) >= free and waiting + needed > config.max_waiting_tokens:
            raise OverloadedError(f"requests of {waiting} tokens are waiting already; try again in a moment")


def _tokens(request: GenerationRequest) -> int:
    return len(request.prompt_ids) + request.sampling.max_new_tokens
