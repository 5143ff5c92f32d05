"""The HTTP application around a state; it needs no Ray, so that tests run it as it is."""

from functools import partial

from fastapi import FastAPI

from llama_platform import __version__
from serve_apps.api import native_routes
from serve_apps.api.admin import routes as admin_routes
from serve_apps.api.admin.access import refusal
from serve_apps.api.admin.documents import UPLOAD_PATH
from serve_apps.api.errors import install
from serve_apps.api.middleware.access_log import Observer
from serve_apps.api.openai import embeddings
from serve_apps.api.openai import routes as openai_routes
from serve_apps.api.rag import routes as rag_routes
from serve_apps.api.request_guard import RequestGuard, Uploads
from serve_apps.api.state import AppState, retry_after_s


def make_api(state: AppState, observer: Observer) -> FastAPI:
    """Return the application.

    Args:
        state: what the routes work with.
        observer: is told of every request.
    """
    api = FastAPI(title="llama-platform", version=__version__)
    api.state.state = state
    api.state.retry_after = partial(retry_after_s, state)
    install(api)
    limits = state.config.limits
    uploads = Uploads(UPLOAD_PATH, limits.max_upload_bytes, partial(refusal, state.config))
    api.add_middleware(RequestGuard, max_body_bytes=limits.max_body_bytes, uploads=uploads, observer=observer)
    for module in (native_routes, rag_routes, openai_routes, embeddings, admin_routes):
        api.include_router(module.routes)
    return api
