"""Request context: the outermost layer.

Gives every request its id, deadline and record, answers what nobody expected, and writes the access log.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llama_platform.errors import InputError, PlatformError
from serve_apps.api.errors import describe, respond
from serve_apps.api.middleware.access_log import Observer, RequestRecord
from serve_apps.generation.deadline import Deadline

State = dict[str, Any]
"""What is known of a request: its id, deadline, record, and what routes have added."""
REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class RequestContextMiddleware:
    """ASGI middleware; leaves `request_id`, `deadline`, `record` and `closing` in the request's state.

    What is pushed on `closing`, an AsyncExitStack, is done when the response has been sent.
    """

    def __init__(
        self,
        app: ASGIApp,
        new_deadline: Callable[[], Deadline],
        retry_after_s: Callable[[], int],
        observer: Observer,
        fields: Callable[[State], Mapping[str, str]] = lambda state: {},
        answering: Callable[[State, RequestRecord, int, bool], None] = lambda state, record, status, streams: None,
        ended: Callable[[State, RequestRecord, int], None] = lambda state, record, status: None,
        counted: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Stand before `app`.

        Args:
            app: the next layer.
            new_deadline: returns the deadline of a request that arrives now.
            retry_after_s: returns in how many seconds a client that is refused should ask again.
            observer: receives the figures of every request.
            fields: returns header fields of a response from the request's state, when the response begins.
            answering: is told state, record, status and whether it streams of a response that is about to begin; it
                may raise a PlatformError, which is answered instead.
            ended: is told the state, record and status of a request that has ended; status 0 without a response.
            counted: a context that lasts as long as a request is answered.
        """
        self._fields, self._answering, self._ended, self._counted = fields, answering, ended, counted
        self._app, self._observer = app, observer
        self._new_deadline, self._retry_after_s = new_deadline, retry_after_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        with self._counted():
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        # Serve's proxy sets the id, the client's or a new one, and repeats it in the response.
        given = headers.get(b"x-request-id", b"")
        valid = REQUEST_ID.fullmatch(given) is not None
        request_id = given.decode() if valid else uuid.uuid4().hex
        trace = headers.get(b"traceparent", b"").decode("latin-1")
        record = RequestRecord(request_id, scope["method"], scope["path"], trace, self._observer)
        closing = AsyncExitStack()
        state = {
            "request_id": request_id,
            "record": record,
            "path": scope["path"],
            "deadline": self._new_deadline(),
            "closing": closing,
            "consent": headers.get(b"x-keep-conversation", b"").decode("latin-1").strip(),
        }
        scope.setdefault("state", {}).update(state)
        status, asked = 0, False

        async def watched(message: Message) -> None:
            nonlocal status, asked
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                _note_route(record, scope)
                if not asked:  # what is answered since this failed has its record in the log
                    asked = True
                    streams = headers.get("content-type", "").startswith("text/event-stream")
                    self._answering(scope["state"], record, message["status"], streams)
                status = message["status"]
                for name, value in self._fields(scope["state"]).items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            if given and not valid:
                raise InputError("X-Request-ID: 1 to 64 letters, digits, '.', '_' and '-' are allowed")
            async with closing:
                await self._app(scope, receive, watched)
        except Exception as error:  # whatever nobody expected: the client gets an answer, the log the reason
            if status:
                raise  # too late for another status: the connection is cut
            if isinstance(error.__cause__, PlatformError):  # starlette's own, for what was raised by `watched`
                error = error.__cause__
            problem = describe(error, request_id)
            record.failed(problem.code)
            await respond(problem, scope["path"], self._retry_after_s())(scope, receive, watched)
        finally:
            _note_route(record, scope)
            record.close(status)
            self._ended(scope["state"], record, status)


def _note_route(record: RequestRecord, scope: Scope) -> None:
    if (route := scope.get("route")) is not None:
        record.routed(route.path)
