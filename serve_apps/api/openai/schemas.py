"""Requests of OpenAI's API (API reference, «Chat» and «Completions»), as far as a Llama can answer them.

What is not supported is refused with the field's name, unless its value asks for nothing.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llama_platform.inference.protocol import SamplingParams
from llama_platform.inference.requests import effective_temperature
from llama_platform.models.prompt import Message

StopText = Annotated[str, Field(min_length=1, max_length=200)]
Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
_NOT_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "function_call": (None, "none"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "modalities": (None, ["text"]),
    "prediction": (None,),
    "response_format": (None, {"type": "text"}),
    "suffix": (None, ""),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "web_search_options": (None,),
}
"""Fields, and the values of them that ask for nothing."""


class StreamOptions(BaseModel):
    """How a stream is sent."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False
    include_obfuscation: bool = False
    """Accepted; nothing is added to chunks."""


class OpenAIRequest(BaseModel):
    """Fields that both routes share, and those of vLLM's that this engine has, too."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(min_length=1, max_length=300)] = Field(
        description="`base`, `base:NAME`, `base:NAME@ALIAS` or `base:NAME@3`"
    )
    max_tokens: Annotated[int, Field(ge=0)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    n: Annotated[int, Field(ge=1, le=128)] | None = 1
    stop: StopText | Annotated[list[StopText], Field(max_length=8)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    user: Annotated[str, Field(max_length=200)] | None = None

    top_k: Annotated[int, Field(ge=-1, le=100_000)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    min_tokens: Annotated[int, Field(ge=0)] = 0
    repetition_penalty: Annotated[float, Field(ge=0.1, le=2)] = 1.0
    ignore_eos: bool = False

    metadata: dict[str, Any] | None = Field(None, description="ignored")
    store: bool | None = Field(None, description="ignored")
    service_tier: str | None = Field(None, description="ignored")
    parallel_tool_calls: bool | None = Field(None, description="ignored")
    prompt_cache_key: str | None = Field(None, description="ignored: beginnings that prompts share are always cached")
    safety_identifier: str | None = Field(None, description="ignored")

    audio: Any = None
    best_of: Any = None
    function_call: Any = None
    functions: Any = None
    logit_bias: Any = None
    modalities: Any = None
    prediction: Any = None
    response_format: Any = Field(None, description='only `{"type": "text"}`')
    suffix: Any = None
    tool_choice: Any = None
    tools: Any = None
    web_search_options: Any = None

    @model_validator(mode="after")
    def _refuse_what_is_not_supported(self) -> "OpenAIRequest":
        for name, harmless in _NOT_SUPPORTED.items():
            if getattr(self, name) not in harmless:
                raise ValueError(f"'{name}' is not supported; leave it out")
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' needs 'stream': true")
        return self

    def stops(self) -> tuple[str, ...]:
        """Return the stop texts."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def include_usage(self) -> bool:
        """Return whether a stream ends with the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(
        self, new_tokens: int, stop: tuple[str, ...], logprobs: int | None, scored: int | None
    ) -> SamplingParams:
        """Return the library's form."""
        return SamplingParams(
            max_new_tokens=new_tokens,
            min_new_tokens=min(self.min_tokens, new_tokens),
            temperature=effective_temperature(1.0 if self.temperature is None else self.temperature),
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            stop=(*self.stops(), *stop),
            seed=None if self.seed is None else self.seed % 2**63,
            ignore_eos=self.ignore_eos,
            logprobs=logprobs,
            prompt_logprobs=scored,
        )


class TextPart(BaseModel):
    """A piece of a message; others than text are not supported."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One turn of a chat."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=200_000)] | Annotated[list[TextPart], Field(min_length=1)]
    name: str | None = Field(None, description="ignored")
    refusal: None = None
    annotations: list[Any] | None = Field(None, description="ignored")
    audio: None = None
    function_call: None = None
    tool_calls: None = None

    @model_validator(mode="after")
    def _not_empty(self) -> "ChatMessage":
        if not self.text().strip():
            raise ValueError("'content' is empty")
        return self

    def text(self) -> str:
        """Return the content as one text."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)

    def to_message(self) -> Message:
        """Return the library's form."""
        return Message("system" if self.role == "developer" else self.role, self.text())


class ChatRequest(OpenAIRequest):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    reasoning_effort: str | None = Field(None, description="ignored")
    verbosity: str | None = Field(None, description="ignored")

    @model_validator(mode="after")
    def _consistent(self) -> "ChatRequest":
        if self.max_tokens == 0:
            raise ValueError("'max_tokens' must be at least 1")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("'top_logprobs' needs 'logprobs': true")
        return self


class CompletionRequest(OpenAIRequest):
    """`POST /v1/completions`."""

    prompt: (
        Annotated[str, Field(min_length=1, max_length=200_000)]
        | Tokens
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=200_000)]], Field(min_length=1, max_length=128)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=128)]
    )
    echo: bool | None = False
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "CompletionRequest":
        if self.max_tokens == 0 and not self.echo:
            raise ValueError("'max_tokens' 0 asks for nothing without 'echo'")
        if self.stream and self.echo and self.logprobs is not None:
            raise ValueError("'echo' with 'logprobs' cannot be streamed: leave out 'stream'")
        return self

    def prompts(self) -> list[str | list[int]]:
        """Return the prompts, texts or token ids."""
        if isinstance(self.prompt, str) or isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)
