"""`/v1/embeddings`: the embedder of the retriever, in OpenAI's form."""

import base64
from typing import Annotated, Any, Literal

import numpy as np
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
from serve_apps.generation.deadline import Deadline

routes = APIRouter(prefix="/v1")


class EmbeddingRequest(BaseModel):
    """A text, or several."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Text | Annotated[list[Text], Field(min_length=1)] = Field(
        description="a text or a list of texts; token ids would be those of another tokenizer"
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = Field(None, description="only the model's own")
    user: Annotated[str, Field(max_length=200)] | None = None


@routes.post("/embeddings", responses=openai_error_responses())
async def embed(body: EmbeddingRequest, request: Request, state: WithState) -> dict[str, Any]:
    """Embed texts with the model that indexes are searched with.

    Raises:
        NotFoundError: retrieval is switched off, or another model is asked for.
        InputError: there are too many texts, or other dimensions are asked for.
        DeadlineError: the request's time has passed.
    """
    known, limit = state.config.embedding.model, state.config.limits.max_embedding_inputs
    texts = [body.input] if isinstance(body.input, str) else body.input
    if state.searcher is None:
        raise NotFoundError("model: retrieval is switched off, and the embedding model with it")
    if body.model != known:
        raise NotFoundError(f"model: '{body.model}' does not embed here; '{known}' does")
    if len(texts) > limit:
        raise InputError(f"input: {len(texts)} texts, over the limit of {limit}")
    record_of(request).asked("\n".join(texts), state.config.log_prompts)
    texts = await screen_texts(state, context_of(state, request, body.user), texts)
    deadline: Deadline = request.state.deadline
    if (allowance := allowance_of(request)) is not None:
        await allowance.reserve(len(texts))  # at least; how many tokens they have is known when they are embedded
    found = await deadline.within(state.searcher.embed(texts, deadline.at))
    record_of(request).embedded(found.tokens)
    if allowance is not None:
        allowance.use(Usage(found.tokens, 0))
    if body.dimensions not in (None, found.vectors.shape[1]):
        raise InputError(f"dimensions: the model has {found.vectors.shape[1]}, and no others")
    data = [
        {"object": "embedding", "index": row, "embedding": _encoded(vector, body.encoding_format)}
        for row, vector in enumerate(found.vectors)
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return {"object": "list", "model": known, "data": data, "usage": usage}


def _encoded(vector: np.ndarray, encoding: str) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
