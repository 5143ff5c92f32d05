"""`POST /rag`: answers from the documents, with checked citations."""

from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from serve_apps.api.errors import error_responses
from serve_apps.api.rag.answer import RagAnswer
from serve_apps.api.rag.retrieval import retrieve_context
from serve_apps.api.rag.schemas import RagRequest, RagResponse
from serve_apps.api.responses import context_of, error_event
from serve_apps.api.sse import event_stream
from serve_apps.api.state import WithState

routes = APIRouter()


@routes.post("/rag", response_model=RagResponse, responses=error_responses())
async def rag(body: RagRequest, request: Request, state: WithState) -> Any:
    """Answer a question from the documents, with its sources; with `stream`, as server-sent events."""
    context = context_of(state, request, body.user)
    sources = await context.deadline.within(retrieve_context(state, request, context, body))
    answer = RagAnswer(state, context, sources)
    if sources.prompt_ids:
        await answer.ask(body)
    if body.stream:
        return await event_stream(answer.events(), error_event(request), state.config.heartbeat_s)
    async with aclosing(answer.pieces()) as pieces:
        async for _ in pieces:
            continue
    return JSONResponse({"answer": answer.text, **answer.whole()})
