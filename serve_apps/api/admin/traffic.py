"""What this ingress replica answered lately, and how the Llama replicas stand."""

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request

from serve_apps.api.access import caller_of
from serve_apps.api.state import WithState

routes = APIRouter(prefix="/traffic")


@routes.get("")
async def traffic(request: Request, state: WithState) -> dict[str, Any]:
    """Tell the last hour by minutes, the load of each Llama replica, and the state of breakers.

    The minutes are those that this ingress replica saw, with a key those of its tenant; Prometheus has all together.
    """
    caller = caller_of(request)
    return {
        "minutes": state.traffic.to_json(caller.tenant if caller is not None else None),
        "replicas": [asdict(status) for status in state.generation.replicas()],
        "breakers": {breaker.name: breaker.state for breaker in state.breakers},
    }
