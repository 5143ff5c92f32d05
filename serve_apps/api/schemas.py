"""What requests and responses look like; every field has a range."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from llama_platform.inference.engine import FinishReason
from llama_platform.inference.fields import GenerationFields, Text


class RagRequest(GenerationFields):
    """`POST /rag`: a question to the documents."""

    question: Annotated[Text, Field(max_length=8000)]
    index: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="`name`, `name@alias` or `name@3`"
    )
    top_k: Annotated[int, Field(ge=1, le=50)] = 4
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0


class UsageOut(BaseModel):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ModelOut(BaseModel):
    """What answered."""

    base: str
    adapter: str | None
    version: int | None
    digest: str | None
    prompt_fingerprint: str


class TimingsOut(BaseModel):
    """Milliseconds since the replica got the request."""

    queue_ms: float
    first_token_ms: float | None
    total_ms: float


class PredictResponse(BaseModel):
    """Answer of `POST /predict`."""

    id: str
    text: str
    finish_reason: FinishReason
    usage: UsageOut
    model: ModelOut
    timings: TimingsOut


class SourceOut(BaseModel):
    """A chunk that was shown to the model."""

    n: int = Field(description="the number by which the answer may cite it")
    document: str
    title: str
    heading: str
    chunk: int
    score: float = Field(description="cosine of question and chunk, 0 to 1")
    text: str
    span: tuple[int, int] = Field(description="characters of the document")


class IndexOut(BaseModel):
    """What was searched."""

    name: str
    version: int
    digest: str


class RagResponse(BaseModel):
    """Answer of `POST /rag`."""

    id: str
    answer: str
    finish_reason: FinishReason
    sources: list[SourceOut]
    index: IndexOut
    usage: UsageOut
    model: ModelOut
    timings: TimingsOut


class Problem(BaseModel):
    """An error (RFC 9457, «Problem Details for HTTP APIs»)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    field: str | None = None

    def body(self) -> dict[str, Any]:
        """Return the JSON object, without what is not known."""
        return self.model_dump(exclude_none=True)
