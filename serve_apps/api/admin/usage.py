"""What was used, by day, tenant, key and adapter."""

import re
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BeforeValidator

from llama_platform.access.usage import as_csv, read_usage
from serve_apps.api.access import caller_of
from serve_apps.api.state import WithState, prices_of


def _only_dates(value: object) -> object:
    """Refuse what pydantic would take for the seconds since 1970."""
    if isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("must be a date, such as 2026-01-31")
    return value


routes = APIRouter(prefix="/usage")
Day = Annotated[date, BeforeValidator(_only_dates)]
DAYS = 30
"""Days that are reported where none is named."""


@routes.get("", response_model=None, responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}})
async def usage(
    request: Request,
    state: WithState,
    first: Annotated[Day | None, Query(alias="from", description="first day, in UTC")] = None,
    last: Annotated[Day | None, Query(alias="to", description="last day, in UTC")] = None,
    tenant: Annotated[str | None, Query(max_length=63)] = None,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response | dict[str, Any]:
    """Report requests, tokens and cost, as processes wrote them last; with a key, those of its tenant."""
    caller, today = caller_of(request), datetime.now(UTC).date()
    whose = caller.tenant if caller is not None else tenant
    await state.pools.store(state.usage.write)
    last = last or today
    first = first or last - timedelta(days=DAYS - 1)
    rows = await state.pools.store(
        partial(read_usage, state.repository.store, first, last, whose, prices_of(state.config.prices))
    )
    if tenant is not None and whose != tenant:
        rows = []
    if form == "csv":
        return Response(as_csv(rows), media_type="text/csv")
    return {"from": first, "to": last, "rows": [row.model_dump(mode="json") for row in rows]}
