"""Server-sent events of the native routes: named events with JSON data (WHATWG HTML, «Server-sent events»)."""

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

from serve_apps.http_errors import describe

Event = tuple[str, dict[str, Any]]


def event_stream(first: Event, rest: AsyncGenerator[Event, None], request_id: str) -> StreamingResponse:
    """Return the response that sends `first`, then `rest`; an error on the way becomes its last event, `error`."""
    return StreamingResponse(
        _texts(first, rest, request_id), headers={"Cache-Control": "no-cache"}, media_type="text/event-stream"
    )


async def _texts(first: Event, rest: AsyncGenerator[Event, None], request_id: str) -> AsyncIterator[str]:
    try:
        yield _text(first, request_id)
        async for event in rest:
            yield _text(event, request_id)
    except Exception as error:  # the status is sent already: what went wrong is an event of the stream
        yield _text(("error", describe(error, request_id).body()), request_id)
    finally:
        await rest.aclose()


def _text(event: Event, request_id: str) -> str:
    name, value = event
    data = {"id": request_id, **value} if name == "done" else value
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
