"""The HTTP application around a service; it needs no Ray, so that tests run it as it is."""

from functools import partial

from fastapi import FastAPI

from llama_platform import __version__
from serve_apps.api import native_routes, rag_routes
from serve_apps.api.admin import routes as admin_routes
from serve_apps.api.admin.access import refusal
from serve_apps.api.admin.documents import UPLOAD_PATH
from serve_apps.api.errors import install
from serve_apps.api.openai import embeddings
from serve_apps.api.openai import routes as openai_routes
from serve_apps.api.request_guard import RequestGuard, Uploads
from serve_apps.api.request_log import Observer
from serve_apps.api.service import Service, retry_after_s


def make_api(service: Service, observer: Observer) -> FastAPI:
    """Return the application.

    Args:
        service: what the routes work with.
        observer: is told of every request.
    """
    api = FastAPI(title="llama-platform", version=__version__)
    api.state.service = service
    api.state.retry_after = partial(retry_after_s, service)
    install(api)
    limits = service.config.limits
    uploads = Uploads(UPLOAD_PATH, limits.max_upload_bytes, partial(refusal, service.config))
    api.add_middleware(RequestGuard, max_body_bytes=limits.max_body_bytes, uploads=uploads, observer=observer)
    for module in (native_routes, rag_routes, openai_routes, embeddings, admin_routes):
        api.include_router(module.routes)
    return api
