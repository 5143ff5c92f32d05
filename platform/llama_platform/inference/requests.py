"""Requests: what may be asked of a model, by HTTP or in a batch; every field has a range."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from llama_platform.inference.protocol import SamplingParams
from llama_platform.models.prompt import Message

MIN_TEMPERATURE = 1e-3
MAX_TEXT_CHARS = 200_000
"""Longest text of a request, in characters; its tokens are bounded by the base's context."""
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARS, pattern=r"\S")]


def effective_temperature(temperature: float) -> float:
    """Return 0 for temperatures by which dividing would overflow: what they mean is greedy."""
    return temperature if temperature >= MIN_TEMPERATURE else 0.0


def one_of(one: str, other: str) -> dict[str, JsonValue]:
    """Return the part of a JSON schema that says that exactly one of two fields is given."""
    choices: list[JsonValue] = [
        {"required": [name], "properties": {name: {"not": {"type": "null"}}, without: {"type": "null"}}}
        for name, without in ((one, other), (other, one))
    ]
    return {"oneOf": choices}


class MessageIn(BaseModel):
    """One turn of a chat; only a user's must have a text: an answer may have been empty."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "if": {"properties": {"role": {"const": "user"}}},
            "then": {"properties": {"content": {"pattern": "\\S"}}},
        },
    )

    role: Literal["system", "user", "assistant"]
    content: Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)]

    @model_validator(mode="after")
    def _users_say_something(self) -> "MessageIn":
        if self.role == "user" and not self.content.strip():
            raise ValueError("'content' is empty")
        return self

    def to_message(self) -> Message:
        """Return the library's form."""
        return Message(self.role, self.content)


class SamplingFields(BaseModel):
    """Fields that all generating routes share."""

    model_config = ConfigDict(extra="forbid")

    max_new_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=100_000)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.1, le=2)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=8)] = []
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    adapter: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="`name`, `name@alias`, `name@3`, or `base` for none"
    )
    user: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="decides the side of a split; the same user always gets the same version"
    )
    stream: bool = False

    def sampling(self, stop: tuple[str, ...]) -> SamplingParams:
        """Return the library's form, with the prompt style's own stop texts added."""
        return SamplingParams(
            max_new_tokens=self.max_new_tokens,
            temperature=effective_temperature(self.temperature),
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            stop=(*self.stop, *stop),
            seed=self.seed,
        )


class PredictRequest(SamplingFields):
    """`POST /predict`: a prompt, or messages of which the last is the user's."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=one_of("prompt", "messages"))

    prompt: Text | None = None
    messages: Annotated[list[MessageIn], Field(min_length=1, max_length=1000)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "PredictRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' or 'messages'")
        return self

    def to_messages(self) -> list[Message]:
        """Return the chat to be answered."""
        if self.messages is not None:
            return [message.to_message() for message in self.messages]
        return [Message("user", self.prompt or "")]
