"""Who is let in, who waits, and who is told when to come back."""

import asyncio
import time

import httpx
import pytest

from serve_apps.api.middleware.admission import Admission
from serve_apps.api.middleware.request_context import RequestContextMiddleware
from serve_apps.generation.deadline import Deadline


@pytest.fixture
def serve(observed):
    """Ask many times at once an application that takes 0.2 s for each."""

    def serve(count, paths=("/predict",), deadline_s=5.0, **limits):
        async def app(scope, receive, send):
            await asyncio.sleep(0.2)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})

        guarded = RequestContextMiddleware(
            Admission(app, **limits), lambda: Deadline.after(deadline_s), lambda: 7, observed
        )

        async def ask():
            async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://test") as client:
                return await asyncio.gather(*(client.get(paths[n % len(paths)]) for n in range(count)))

        return asyncio.run(ask())

    return serve


def test_what_may_not_wait_is_refused_with_the_documented_body(serve):
    answers = serve(200, max_ongoing=4, max_queued=8)
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 200 - 12
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.headers["content-type"] for answer in refused} == {"application/problem+json"}
    assert {answer.headers["retry-after"] for answer in refused} == {"7"}
    assert {answer.json()["code"] for answer in refused} == {"overloaded"}


def test_below_v1_it_is_an_error_of_openais(serve):
    *_, refused = serve(3, ("/v1/chat/completions",), max_ongoing=1, max_queued=1)
    assert refused.json()["error"]["type"] == "server_error"


def test_waiting_ends_with_the_deadline(serve):
    begun = time.monotonic()
    answers = serve(6, max_ongoing=1, max_queued=10, deadline_s=0.5)
    assert {answer.status_code for answer in answers} == {200, 504}
    assert time.monotonic() - begun < 2


def test_health_is_answered_however_much_there_is_to_do(serve):
    answers = serve(9, ("/predict", "/predict", "/health/live"), max_ongoing=1, max_queued=0)
    assert [answer.status_code for answer in answers[2::3]] == [200] * 3


def test_a_tenant_has_half_of_the_places(serve):
    def tenant_of(scope):
        return scope["path"][1:].partition("/")[0].replace("nobody", "")

    paths = ("/acme/x",) * 9 + ("/other/x",) + ("/nobody/x",)
    answers = serve(11, paths, max_ongoing=4, max_queued=8, tenant_of=tenant_of)
    assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 3 + [200] * 2
    assert answers[6].json()["limit"] == {"quota": "concurrent_requests", "limit": 6, "of": "tenant", "resets_in_s": 1}
    assert answers[6].headers["retry-after"] == "1"
