"""ReplicaStatus: what a Llama replica says of itself, for health, limits and autoscaling."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """State of one replica at its last report, about a second old."""

    context_length: int
    """Tokens that prompt and answer may have together."""
    healthy: bool
    """Whether its engine answers."""
    engine: str = ""
    """Kind of engine: `torch` or `vllm`."""
    products: dict[str, str] = field(default_factory=dict)
    """What computes each kind of matrix product on a CPU, such as `vector up to 2 rows, matrix beyond`."""
    cuda_available: bool = False
    """Whether it computes on a GPU of its own."""
    memory: dict[str, Any]
    """Bytes, by what takes them."""
    failed_steps: int
    """Steps that broke since the replica started."""
    running: int
    """Requests that are being answered."""
    waiting: int
    """Requests that wait for a slot of the engine."""
    tokens_in_flight: float = 0.0
    """Tokens of prompts and answers that may still have to be computed."""
    queue_wait_s: float = 0.0
    """Longest wait of a recent request for its first step, in seconds."""
    response_s: float
    """Mean duration of recent requests, in seconds."""
    adapters_loaded: tuple[str, ...] = ()
    """Digests of the loaded adapters."""
    adapters_refused: dict[str, str] = field(default_factory=dict)
    """Adapters that have spoiled their answers, by digest, with the reason."""
    completion_tokens: int = 0
    """Tokens generated since the replica started."""
