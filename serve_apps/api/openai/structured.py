"""Fields that ask for an answer of a structure: OpenAI's `response_format`, and vLLM's."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llama_platform.errors import InputError
from llama_platform.inference.structure import ANY_OBJECT, Structure, choice, json_schema


class JsonSchema(BaseModel):
    """A schema with its name."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=200)] | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = Field(None, description="every schema is kept strictly")


class ResponseFormat(BaseModel):
    """What an answer must be."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("'json_schema' belongs to type json_schema, and that needs it")
        return self


class StructuredOutputs(BaseModel):
    """vLLM's newer form of the `guided_` fields."""

    model_config = ConfigDict(extra="forbid")

    json_: dict[str, Any] | str | None = Field(None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    json_object: bool | None = None


def structures(
    format_: ResponseFormat | None, outputs: StructuredOutputs | None, guided: Mapping[str, Any]
) -> dict[str, Structure]:
    """Return the structures that a request asks for, by its fields; empty ones ask for nothing.

    Raises:
        InputError: a schema is a text that is no JSON.
    """
    found: dict[str, Structure] = {}
    if format_ is not None and format_.type == "json_object":
        found["response_format"] = ANY_OBJECT
    if format_ is not None and format_.json_schema is not None:
        found["response_format"] = json_schema(format_.json_schema.schema_ or {"type": "object"})
    if outputs is not None:
        if outputs.json_object:
            found["structured_outputs.json_object"] = ANY_OBJECT
        named = {"json": outputs.json_, "regex": outputs.regex, "choice": outputs.choice}
        guided = {**guided, **{f"structured_outputs.{name}": value for name, value in named.items()}}
    for name, value in guided.items():
        if not value:
            continue
        if name.endswith("json"):
            found[name] = json_schema(_schema(name, value))
        elif name.endswith("regex"):
            found[name] = Structure("regex", value)
        else:
            found[name] = choice(value)
    return found


def _schema(name: str, value: dict[str, Any] | str) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise InputError(f"{name}: is no JSON: {error}") from error
