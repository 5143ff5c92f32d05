"""A small application behind the middleware of every request."""

import re

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from llama_platform.errors import UnauthorizedError
from serve_apps.api.middleware.body_limit import BodyLimit, Uploads
from serve_apps.api.middleware.request_context import RequestContextMiddleware
from serve_apps.generation.deadline import Deadline


def only_me(authorization):
    if authorization != "me":
        raise UnauthorizedError("who?")


UPLOADS = Uploads(re.compile("/upload"), 200, only_me)


class Observed(list):
    def request(self, route, code, seconds):
        self.append((route, code))


@pytest.fixture
def observed():
    return Observed()


@pytest.fixture
def in_context(observed):
    """Put an ASGI application behind the middleware that knows each request."""
    return lambda app: RequestContextMiddleware(app, lambda: Deadline.after(5), lambda: 7, observed)


@pytest.fixture
def client(observed):
    api = FastAPI()
    api.add_middleware(BodyLimit, max_body_bytes=100, uploads=UPLOADS)
    api.add_middleware(
        RequestContextMiddleware, new_deadline=lambda: Deadline.after(5), retry_after_s=lambda: 7, observer=observed
    )

    @api.post("/echo/{name}")
    async def echo(request: Request, body: dict) -> dict:
        if "fail" in body:
            raise RuntimeError("secret")
        return {"id": request.state.request_id, **body}

    @api.post("/upload")
    async def upload(request: Request) -> int:
        return len(await request.body())

    return TestClient(api)
