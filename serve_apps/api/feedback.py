"""`POST /feedback`: what somebody says of an answer."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from llama_platform.canary.counts import SplitKey
from llama_platform.errors import ForbiddenError
from llama_platform.feedback.book import Opinion
from serve_apps.api.access import caller_of, require
from serve_apps.api.errors import error_responses
from serve_apps.api.state import WithState

routes = APIRouter()


class FeedbackRequest(Opinion):
    """An opinion of one answer."""

    request: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        description="id of the request that was answered, as in its response and its header X-Request-ID"
    )


@routes.post("/feedback", responses=error_responses(), dependencies=[Depends(require("feedback"))])
async def feedback(body: FeedbackRequest, request: Request, state: WithState) -> dict[str, Any]:
    """Keep an opinion of an answer whose conversation is kept.

    Raises:
        ForbiddenError: no conversations are kept here.
        NotFoundError: none is kept under that request, for the tenant of the key.
    """
    if not state.config.feedback.enabled or state.conversations is None:
        raise ForbiddenError("feedback is switched off here; the configuration's feedback.enabled switches it on")
    caller = caller_of(request)
    opinion = Opinion(**body.model_dump(exclude={"request"}))
    await state.conversations.written()  # an answer that has just ended may be on its way to the store
    book, tenant = state.conversations.book, caller.tenant if caller is not None else ""
    made = await state.pools.store(book.add, tenant, body.request, opinion)
    if opinion.rating == "down":
        entry = await state.pools.store(book.find, tenant, body.request)
        answered, times = entry.conversation, sum(one.rating == "down" for one in entry.opinions)
        if times == 1 and answered.adapter and answered.version and answered.alias and answered.generation:
            split = SplitKey(answered.adapter, answered.alias, answered.generation)
            state.splits.disliked(split, answered.version)
    return {"id": made, "request": body.request}
