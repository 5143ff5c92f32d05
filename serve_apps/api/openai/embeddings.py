"""`/v1/embeddings`: the embedder of the retriever, in OpenAI's form."""

import base64
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from llama_platform.errors import InputError, NotFoundError
from llama_platform.inference.protocol import Usage
from llama_platform.inference.requests import Text
from rag.embedding import Vectors
from serve_apps.api.access import allowance_of
from serve_apps.api.errors import openai_error_responses
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.openai.schemas import Tokens
from serve_apps.api.responses import context_of
from serve_apps.api.screening import screen_texts
from serve_apps.api.state import Searcher, WithState
from serve_apps.generation.deadline import Deadline

routes = APIRouter(prefix="/v1")


def _form(value: Any) -> str:
    """Return which form of input a value is meant to have, so that an error tells of that form alone."""
    if isinstance(value, str):
        return "a text"
    first = value[0] if isinstance(value, list) and value else None
    return "token ids" if isinstance(first, int) else "several lists" if isinstance(first, list) else "several texts"


class EmbeddingRequest(BaseModel):
    """A text, or several."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=200)]
    input: Annotated[
        Annotated[Text, Tag("a text")]
        | Annotated[Tokens, Tag("token ids")]
        | Annotated[list[Text], Field(min_length=1), Tag("several texts")]
        | Annotated[list[Tokens], Field(min_length=1), Tag("several lists")],
        Discriminator(_form),
    ] = Field(description="a text, several, or token ids of the embedding model's own tokenizer")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = Field(
        None, description="the model's own, or one of embedding.shorter"
    )
    user: Annotated[str, Field(max_length=200)] | None = None

    def inputs(self) -> list[str | list[int]]:
        """Return what is to be embedded, texts or token ids."""
        if isinstance(self.input, str):
            return [self.input]
        return [self.input] if isinstance(self.input[0], int) else list(self.input)


@routes.post("/embeddings", responses=openai_error_responses())
async def embed(body: EmbeddingRequest, request: Request, state: WithState) -> dict[str, Any]:
    """Embed texts with the model that indexes are searched with.

    Raises:
        NotFoundError: retrieval is switched off, or another model is asked for.
        InputError: there are too many texts, or other dimensions are asked for.
        DeadlineError: the request's time has passed.
    """
    known, limit = state.config.embedding.model, state.config.limits.max_embedding_inputs
    inputs = body.inputs()
    if state.searcher is None:
        raise NotFoundError("model: retrieval is switched off, and the embedding model with it")
    if body.model != known:
        raise NotFoundError(f"model: '{body.model}' does not embed here; '{known}' does")
    if len(inputs) > limit:
        raise InputError(f"input: {len(inputs)} texts, over the limit of {limit}")
    deadline: Deadline = request.state.deadline
    texts = await _texts(state.searcher, inputs, deadline)
    record_of(request).asked("\n".join(texts), state.config.log_prompts)
    texts = await screen_texts(state, context_of(state, request, body.user), texts)
    if (allowance := allowance_of(request)) is not None:
        await allowance.reserve(len(texts))  # at least; how many tokens they have is known when they are embedded
    found = await deadline.within(state.searcher.embed(texts, deadline.at))
    record_of(request).embedded(found.tokens)
    if allowance is not None:
        allowance.use(Usage(found.tokens, 0))
    vectors = _shortened(found.vectors, body.dimensions, state.config.embedding.shorter)
    data = [
        {"object": "embedding", "index": row, "embedding": _encoded(vector, body.encoding_format)}
        for row, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return {"object": "list", "model": known, "data": data, "usage": usage}


async def _texts(searcher: Searcher, inputs: Sequence[str | list[int]], deadline: Deadline) -> list[str]:
    """Return texts, those of token ids among them: what rules screen and the log tells is text."""
    ids = [one for one in inputs if not isinstance(one, str)]
    if not ids:
        return [one for one in inputs if isinstance(one, str)]
    try:
        return await deadline.within(searcher.texts(ids, deadline.at))
    except InputError as error:
        raise InputError(f"input: {error}") from error


def _shortened(vectors: Vectors, dimensions: int | None, shorter: Sequence[int]) -> Vectors:
    """Return the first numbers of vectors, of length 1 again.

    Raises:
        InputError: the model has no such dimensions.
    """
    own = vectors.shape[1]
    if dimensions in (None, own):
        return vectors
    if dimensions not in shorter or dimensions > own:
        known = ", ".join(map(str, sorted({own, *(one for one in shorter if one < own)})))
        raise InputError(f"dimensions: the model has {known}, and no others")
    cut = vectors[:, :dimensions]
    return np.asarray(cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _encoded(vector: np.ndarray, encoding: str) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
