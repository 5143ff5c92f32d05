"""`/v1/rerank`: the reranker of `/rag`, in the form of Jina's and Cohere's API, which vLLM has, too."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from llama_platform.errors import InputError, NotFoundError
from llama_platform.inference.protocol import Usage
from llama_platform.inference.requests import Text
from serve_apps.api.access import allowance_of
from serve_apps.api.errors import openai_error_responses
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.responses import context_of
from serve_apps.api.screening import screen_texts
from serve_apps.api.state import WithState

routes = APIRouter(prefix="/v1")


class RerankRequest(BaseModel):
    """A question, and texts that may answer it."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="the name that `rag.rerank` has; null for that"
    )
    query: Text
    documents: Annotated[list[Text], Field(min_length=1)]
    top_n: Annotated[int, Field(ge=1)] | None = Field(None, description="how many of the best; null for all")
    return_documents: bool = True
    user: Annotated[str, Field(max_length=200)] | None = None


@routes.post("/rerank", responses=openai_error_responses())
async def rerank(body: RerankRequest, request: Request, state: WithState) -> dict[str, Any]:
    """Order texts by how well they answer a question.

    Raises:
        NotFoundError: no reranker is configured, or another model is asked for.
        InputError: there are too many texts, or one is longer than the model reads.
        DeadlineError: the request's time has passed.
    """
    known, limit = state.config.rag.rerank, state.config.limits.max_embedding_inputs
    if state.searcher is None or known is None:
        raise NotFoundError("model: no reranker is configured here; rag.rerank names one")
    if body.model not in (None, known):
        raise NotFoundError(f"model: '{body.model}' does not rerank here; '{known}' does")
    if len(body.documents) > limit:
        raise InputError(f"documents: {len(body.documents)} texts, over the limit of {limit}")
    record_of(request).asked("\n".join([body.query, *body.documents]), state.config.log_prompts)
    context = context_of(state, request, body.user)
    query, *documents = await screen_texts(state, context, [body.query, *body.documents])
    if (allowance := allowance_of(request)) is not None:
        await allowance.reserve(len(documents))  # at least; how many tokens they have is known when they are judged
    deadline = context.deadline
    scores, tokens = await deadline.within(state.searcher.rerank(query, documents, deadline.at))
    record_of(request).embedded(tokens)
    if allowance is not None:
        allowance.use(Usage(tokens, 0))
    best = sorted(range(len(scores)), key=lambda place: (-scores[place], place))[: body.top_n]
    results = [
        {"index": place, "relevance_score": scores[place]}
        | ({"document": {"text": documents[place]}} if body.return_documents else {})
        for place in best
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"id": f"rerank-{context.request_id}", "model": known, "results": results, "usage": usage}
