"""Shapes that several families of routes share: errors, usage, model and timings."""

from typing import Any

from pydantic import BaseModel, Field


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


class LimitFacts(BaseModel):
    """Which limit is used up."""

    quota: str
    limit: int
    of: str
    """`key` or `tenant`."""
    resets_in_s: int


class Problem(BaseModel):
    """An error (RFC 9457, «Problem Details for HTTP APIs»)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    field: str | None = None
    limit: LimitFacts | None = None
    openai_code: str | None = Field(None, exclude=True)
    """Code below `/v1`, where it is another one there."""

    def body(self) -> dict[str, Any]:
        """Return the JSON object, without what is not known."""
        return self.model_dump(exclude_none=True)


class OpenAIErrorDetail(BaseModel):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """An error below `/v1`."""

    error: OpenAIErrorDetail
