"""Requests of `/v1/chat/completions`: chats, with functions that they may call."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llama_platform.errors import InputError
from llama_platform.inference.requests import MAX_TEXT_CHARS
from llama_platform.inference.structure import Structure, json_schema
from llama_platform.models.prompt import Message, Role
from llama_platform.models.tool_chat import ToolTurn, plain_chat
from serve_apps.api.openai.schemas import MaxTokensNotZero, OpenAIRequest, check_structure
from serve_apps.api.openai.tolerance import MESSAGE, PART, REQUEST, drop_harmless
from serve_apps.api.openai.tools import CallId, ToolCallIn, ToolChoice, ToolIn, offered, structure_of_calls


class TextPart(BaseModel):
    """A piece of a message; others than text are not supported."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, values: Any) -> Any:
        return drop_harmless(values, PART)


Content = Annotated[str, Field(max_length=MAX_TEXT_CHARS)] | Annotated[list[TextPart], Field(min_length=1)]


class ChatMessage(BaseModel):
    """One turn of a chat; only a user's must have a text. An answer that calls functions may have none."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "if": {"properties": {"role": {"const": "user"}}},
            "then": {
                "properties": {
                    "content": {
                        "anyOf": [
                            {"type": "string", "pattern": "\\S"},
                            {"type": "array", "contains": {"properties": {"text": {"pattern": "\\S"}}}},
                        ]
                    }
                }
            },
        },
    )

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    tool_calls: Annotated[list[ToolCallIn], Field(max_length=128)] | None = Field(
        None, description="of an assistant's turn: the functions that it called"
    )
    tool_call_id: CallId | None = Field(None, description="of a tool's turn: the call that this is the result of")

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, values: Any) -> Any:
        return drop_harmless(values, MESSAGE)

    @model_validator(mode="after")
    def _users_say_something(self) -> "ChatMessage":
        if self.content is None and not self.tool_calls:
            raise ValueError("'content' is missing")
        if self.role == "user" and not self.text().strip():
            raise ValueError("'content' is empty")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"'tool_calls' belong to the assistant, not to '{self.role}'")
        if (self.role == "tool") != bool(self.tool_call_id):
            raise ValueError("'tool_call_id' belongs to the role tool, and that needs it")
        return self

    def text(self) -> str:
        """Return the content as one text."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class ChatRequest(OpenAIRequest):
    """`POST /v1/chat/completions`."""

    tolerated: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        name: values for name, values in REQUEST.items() if name not in ("tools", "tool_choice", "parallel_tool_calls")
    }

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)]
    max_tokens: MaxTokensNotZero = None
    max_completion_tokens: MaxTokensNotZero = None
    logprobs: bool | None = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[ToolIn], Field(max_length=128)] | None = Field(
        None, description="functions that the model may call"
    )
    tool_choice: ToolChoice | None = Field(
        None, description="whether functions are called: `auto` where there are some, `required`, `none`, or which"
    )
    parallel_tool_calls: bool | None = Field(True, description="whether an answer may call several times")

    @model_validator(mode="after")
    def _consistent(self) -> "ChatRequest":
        if self.top_logprobs and not self.logprobs:
            raise ValueError("'top_logprobs' needs 'logprobs': true")
        return self

    def new_tokens(self) -> int | None:
        """Return the bound on the answer's tokens; None for no wish."""
        return self.max_completion_tokens or self.max_tokens

    def to_messages(self) -> list[Message]:
        """Return the chat in an order that prompts have: see `alternating`.

        Raises:
            InputError: a result belongs to no call before it, a call's arguments are no JSON, or tools do not fit.
        """
        return chat_of(self.messages, self.tools, self.tool_choice)

    def structure(self) -> Structure | None:
        """Return what the answer must be, calls of functions included; None for whatever it is.

        Raises:
            InputError: as of other requests, or a function's schema cannot be kept.
        """
        answer, tools = super().structure(), offered(self.tools, self.tool_choice)
        if not tools:
            return answer
        if answer is not None and answer.kind != "json":
            raise InputError("tools: an answer that may call functions is otherwise free, or JSON of a schema")
        for tool in tools:
            check_structure(f"tools: {tool.name}: parameters", json_schema(tool.parameters or {}))
        found = structure_of_calls(tools, self.tool_choice, self.parallel_tool_calls is not False, answer)
        check_structure("tools", found)
        return found


def chat_of(
    messages: Sequence[ChatMessage], tools: Sequence[ToolIn] | None, choice: ToolChoice | None
) -> list[Message]:
    """Return a chat as a prompt can hold it, with functions, calls and results as text; see ChatRequest.to_messages."""
    names: dict[str, str] = {}
    turns = []
    for number, message in enumerate(messages, 1):
        calls = tuple(one.to_call() for one in message.tool_calls or ())
        names |= {one.id: one.function.name for one in message.tool_calls or ()}
        if message.tool_call_id and message.tool_call_id not in names:
            raise InputError(f"messages: turn {number}: no call before it has the id '{message.tool_call_id}'")
        role = "system" if message.role == "developer" else message.role
        turns.append(ToolTurn(role, message.text(), calls, names.get(message.tool_call_id or "")))
    chat = plain_chat(turns, offered(tools, choice))
    return alternating([(message.role, message.content) for message in chat])


def alternating(turns: Sequence[tuple[Role, str]]) -> list[Message]:
    """Return a chat as a Llama's prompt can hold it: at most one system turn, then user and assistant in turn.

    System texts are joined and stand first, neighbours of one role are joined, and where the assistant speaks first, an
    empty question stands before it. Empty system texts say nothing.
    """
    systems = [text for role, text in turns if role == "system" and text.strip()]
    messages = [Message("system", "\n\n".join(systems))] if systems else []
    spoken: list[Message] = []
    for role, text in turns:
        if role == "system":
            continue
        if not spoken and role == "assistant":
            spoken.append(Message("user", ""))
        if spoken and spoken[-1].role == role:
            spoken[-1] = Message(role, f"{spoken[-1].content}\n\n{text}")
        else:
            spoken.append(Message(role, text))
    return [*messages, *(spoken or [Message("user", "")])]
