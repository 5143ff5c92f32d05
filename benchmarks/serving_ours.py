"""Our application for `benchmarks.serving`, on a Ray of its own, with an echo over the same hops beside it.

    python -m benchmarks.serving_ours PORT APP_ARGUMENTS_AS_JSON

Prints `{"ready": seconds}` when it answers, and serves until standard input ends.
"""

import json
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from benchmarks.served import serve_on, until_input_ends


class Echo:
    """What a Llama replica is to the ingress, without any work."""

    async def generate(self) -> AsyncIterator[str]:
        """Yield one event."""
        yield 'data: {"choices":[{"index":0,"text":"w1"}]}\n\n'


class EchoIngress:
    """What the ingress is to a client, without any work."""

    def __init__(self, echo: Any) -> None:
        """Ask through the handle."""
        self._echo = echo.options(stream=True)

    def __serve_build_asgi_app__(self) -> FastAPI:
        api = FastAPI()

        @api.post("/v1/completions")
        async def complete(body: dict[str, Any]) -> StreamingResponse:
            return StreamingResponse(self._echo.generate.remote(), media_type="text/event-stream")

        return api


def main() -> int:
    """Serve until standard input ends."""
    port, arguments = int(sys.argv[1]), json.loads(sys.argv[2])
    with serve_on(port) as serve:
        from serve_apps.app import app

        light = {"num_cpus": 0.05}
        echo = serve.deployment(Echo, name="echo", ray_actor_options=light, max_ongoing_requests=64).bind()
        routed = serve.deployment(
            serve.ingress()(EchoIngress), name="echo_ingress", ray_actor_options=light, max_ongoing_requests=64
        )
        serve.run(routed.bind(echo), name="echo", route_prefix="/echo")
        start = time.monotonic()
        serve.run(app(arguments), name="llama", route_prefix="/", blocking=False)
        until_input_ends(port, start)
    return 0


if __name__ == "__main__":
    sys.exit(main())
