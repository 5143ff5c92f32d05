"""The HTTP application around its state; it needs no Ray, so that tests run it as it is."""

from datetime import UTC, datetime
from functools import partial

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi_offline import FastAPIOffline

from llama_platform import __version__
from llama_platform.access.keys import Caller
from llama_platform.access.usage import UsageKey
from serve_apps.api import console, feedback, me
from serve_apps.api.access import check_admin, name_of, require, tenant_of
from serve_apps.api.admin import routes as admin_routes
from serve_apps.api.admin.documents import UPLOAD_PATH
from serve_apps.api.errors import install
from serve_apps.api.health import routes as health_routes
from serve_apps.api.middleware.access_log import Observer, RequestRecord
from serve_apps.api.middleware.admission import Admission
from serve_apps.api.middleware.body_limit import BodyLimit, Uploads
from serve_apps.api.middleware.idempotency import Idempotency
from serve_apps.api.middleware.request_context import RequestContextMiddleware, State
from serve_apps.api.openai import routes as openai_routes
from serve_apps.api.predict import routes as predict_routes
from serve_apps.api.rag import routes as rag_routes
from serve_apps.api.rate_limit_fields import rate_limit_fields
from serve_apps.api.schemas import Problem
from serve_apps.api.state import AppState, prices_of, retry_after_s
from serve_apps.generation.allowance import Allowance

LEASE_MARGIN_S = 30.0
"""How long what a request holds, such as its Idempotency-Key, is kept beyond its deadline."""
SECURITY_FIELDS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
"""For browsers that come to see an answer: it is data, no page. The description of the routes is one."""


def make_api(state: AppState, observer: Observer) -> FastAPI:
    """Return the application.

    Args:
        state: the collaborators of the routes.
        observer: receives the figures of every request.
    """
    # `/docs` works without the internet: its scripts come from a package.
    api = FastAPIOffline(title="llama-platform", version=__version__, redoc_url=None)
    retry_after = partial(retry_after_s, state)
    api.state.state, api.state.retry_after = state, retry_after
    install(api)
    limits, ingress = state.config.limits, state.config.ingress
    uploads = Uploads(UPLOAD_PATH, limits.max_upload_bytes, partial(check_admin, state))
    # The last one added stands outermost.
    lease_s = limits.request_timeout_s + LEASE_MARGIN_S
    api.add_middleware(Idempotency, replies=state.replies, caller_of=partial(name_of, state), lease_s=lease_s)
    api.add_middleware(
        Admission,
        max_ongoing=ingress.max_ongoing_requests,
        max_queued=ingress.max_queued_requests,
        tenant_of=partial(tenant_of, state),
    )
    reading = ingress.max_ongoing_requests + ingress.max_queued_requests
    api.add_middleware(BodyLimit, max_body_bytes=limits.max_body_bytes, uploads=uploads, max_reading=reading)
    api.add_middleware(
        RequestContextMiddleware,
        new_deadline=state.generation.new_deadline,
        retry_after_s=retry_after,
        observer=observer,
        fields=partial(_fields, state),
        answering=state.auditor.answering,
        ended=partial(_ended, state, observer),
        counted=state.drain.counted,
    )
    if state.config.cors.origins:
        api.add_middleware(
            CORSMiddleware,
            allow_origins=state.config.cors.origins,
            allow_credentials=state.config.cors.credentials,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=[
                "Authorization",
                "Content-Type",
                "Idempotency-Key",
                "X-Keep-Conversation",
                "X-Request-ID",
                "X-Session-ID",
            ],
            expose_headers=["X-Request-ID", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Cost"],
            max_age=600,
        )
    for module in (
        health_routes,
        openai_routes,
        admin_routes,
        feedback,
        me,
        console,
    ):  # these say for each route who may use it
        api.include_router(module.routes)
    api.include_router(predict_routes.routes, dependencies=[Depends(require("generate"))])
    api.include_router(rag_routes.routes, dependencies=[Depends(require("rag"))])
    _describe_problem(api)
    return api


def _fields(state: AppState, known: State) -> dict[str, str]:
    """Return the header fields of a response that follow from what is known of its request."""
    allowance: Allowance | None = known.get("allowance")
    fields = dict(SECURITY_FIELDS) if not known["path"].startswith("/docs") else {}
    fields |= rate_limit_fields(allowance.standings()) if allowance is not None else {}
    prices, record = state.config.prices, known["record"]
    if prices.header and record.usage().completion_tokens:
        fields["X-Request-Cost"] = f"{prices_of(prices).cost(record.usage()):.6f}"
    return fields


def _ended(state: AppState, observer: Observer, known: State, record: RequestRecord, status: int) -> None:
    """Finish the record of a request, and count it for the reports of use; only what a scope opens counts there."""
    state.auditor.ended(known, record, status)
    state.tracer.ended(record, status)
    if state.conversations is not None:
        state.conversations.ended(known, record, status, known.get("consent", ""))
    if record.split is not None and (seen := record.observation(status)) is not None:
        state.splits.observe(record.split, record.version, seen)
    caller: Caller | None = known.get("caller")
    if "counts" in known:
        record.count_in(state.traffic, caller.tenant if caller is not None else "", status)
    if "allowance" not in known and (state.keys is not None or not record.usage().prompt_tokens):
        return
    counts = record.usage().model_copy(update={"requests": 1, "failed": int(status >= 400)})
    tenant, key = (caller.tenant, caller.key) if caller is not None else ("", "")
    state.usage.add(UsageKey(datetime.now(UTC).date(), tenant, key, record.adapter), counts)


def _describe_problem(api: FastAPI) -> None:
    """Add the shape of errors to the description: routes refer to it under another media type than FastAPI's own."""
    made = api.openapi

    def openapi() -> dict[str, object]:
        description = made()
        schemas = description.setdefault("components", {}).setdefault("schemas", {})
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        for name, schema in {**problem.pop("$defs"), "Problem": problem}.items():
            schemas.setdefault(name, schema)
        return description

    api.openapi = openapi  # type: ignore[method-assign]
