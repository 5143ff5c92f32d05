"""Server-sent events (WHATWG HTML, «Server-sent events»): responses that start with the first event, and heartbeats."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi.responses import StreamingResponse

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
HEARTBEAT = ": still here\n\n"

# Line ends of Unicode, which clients that split an event by Python's `splitlines` take for the end of its line.
_LINE_BREAKS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}


def message(data: Any, event: str | None = None) -> str:
    """Return one event; `data` is sent as JSON, or as it is if it is a text."""
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    text = text.translate(_LINE_BREAKS)
    return f"event: {event}\ndata: {text}\n\n" if event else f"data: {text}\n\n"


async def event_stream(
    messages: AsyncGenerator[str, None], failed: Callable[[Exception], str], heartbeat_s: float
) -> StreamingResponse:
    """Return the response that streams `messages`.

    It starts with the first of them, so that what is refused has a status of its own; a first one that lets wait longer
    than a heartbeat comes after the start.

    Args:
        messages: texts of events; closed when the client leaves.
        failed: makes the last event of an error that comes after the start.
        heartbeat_s: a comment is sent so often while there is nothing else.
    """
    first = asyncio.ensure_future(anext(messages))
    try:
        await asyncio.wait((first,), timeout=heartbeat_s)
        if first.done():
            first.result()
    except BaseException:  # also where the client has gone: what generates must end
        await _stop(first, messages)
        raise
    return StreamingResponse(
        _beating(first, messages, failed, heartbeat_s), headers=HEADERS, media_type="text/event-stream"
    )


async def _beating(
    pending: "asyncio.Future[str]",
    messages: AsyncGenerator[str, None],
    failed: Callable[[Exception], str],
    heartbeat_s: float,
) -> AsyncGenerator[str, None]:
    try:
        while True:
            if not pending.done():
                await asyncio.wait((pending,), timeout=heartbeat_s)
            if not pending.done():
                yield HEARTBEAT
                continue
            yield pending.result()
            pending = asyncio.ensure_future(anext(messages))
    except StopAsyncIteration:
        return
    except Exception as error:  # the status is sent already: what went wrong is an event of the stream
        yield failed(error)
    finally:
        await _stop(pending, messages)


async def _stop(pending: "asyncio.Future[str]", messages: AsyncGenerator[str, None]) -> None:
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)  # a generator that runs cannot be closed
    await messages.aclose()
