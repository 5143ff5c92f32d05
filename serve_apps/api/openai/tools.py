"""Fields by which a chat offers functions, calls them and tells their results, as OpenAI has them."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llama_platform.errors import InputError
from llama_platform.inference.structure import Structure, tool_calls
from llama_platform.models.tools import Tool, ToolCall, read_arguments

ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
CallId = Annotated[str, Field(max_length=200)]


class FunctionIn(BaseModel):
    """A function that may be called."""

    model_config = ConfigDict(extra="forbid")

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="JSON schema of the arguments; null for any object")
    strict: bool | None = Field(None, description="every schema is kept strictly")

    @model_validator(mode="after")
    def _takes_an_object(self) -> "FunctionIn":
        if self.parameters and self.parameters.get("type", "object") != "object":
            raise ValueError("'parameters' must be a schema of type object")
        return self


class ToolIn(BaseModel):
    """A tool; functions are the only kind."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    function: FunctionIn

    def to_tool(self) -> Tool:
        """Return the library's form."""
        schema = None if self.function.parameters is None else {"type": "object", **self.function.parameters}
        return Tool(self.function.name, self.function.description or "", schema)


class NamedFunction(BaseModel):
    """The name of a function."""

    model_config = ConfigDict(extra="forbid")

    name: ToolName


class NamedTool(BaseModel):
    """The function that has to be called."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["function"]
    function: NamedFunction


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class CalledFunction(BaseModel):
    """A function, and what it was called with."""

    model_config = ConfigDict(extra="forbid")

    name: ToolName
    arguments: Annotated[str, Field(max_length=200_000)] = Field(description="JSON")


class ToolCallIn(BaseModel):
    """A call that an earlier answer made."""

    model_config = ConfigDict(extra="forbid")

    id: CallId
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = Field(None, description="accepted, as streams have it; the order counts")

    def to_call(self) -> ToolCall:
        """Return the library's form.

        Raises:
            InputError: the arguments are no JSON.
        """
        return ToolCall(self.function.name, read_arguments(self.function.arguments))


def offered(tools: Sequence[ToolIn] | None, choice: ToolChoice | None) -> list[Tool]:
    """Return the functions that the model may call.

    Raises:
        InputError: two have one name, or one has to be called that is not there.
    """
    if choice == "none":
        return []
    known = {one.function.name: one.to_tool() for one in tools or ()}
    if len(known) < len(tools or ()):
        raise InputError("tools: two functions have the same name")
    if isinstance(choice, NamedTool) and choice.function.name not in known:
        raise InputError(f"tool_choice: there is no function '{choice.function.name}' among 'tools'")
    if choice == "required" and not known:
        raise InputError("tool_choice: 'required' needs 'tools'")
    return list(known.values())


def structure_of_calls(
    tools: Sequence[Tool], choice: ToolChoice | None, several: bool, answer: Structure | None
) -> Structure:
    """Return what an answer must be that may call functions.

    Args:
        tools: what `offered` returned; at least one.
        choice: whether functions have to be called.
        several: whether there may be more than one call.
        answer: JSON that an answer without calls is; None for any text.
    """
    if isinstance(choice, NamedTool):
        tools = [tool for tool in tools if tool.name == choice.function.name]
    required = choice == "required" or isinstance(choice, NamedTool)
    return tool_calls(tools, required=required, several=several, answer=answer)
