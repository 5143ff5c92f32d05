"""Requests of OpenAI's API (API reference, «Chat» and «Completions»), as far as a Llama can answer them.

Fields of other servers are accepted where they ask for nothing (`tolerance`); null means that nothing is wished.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from llama_platform.errors import InputError
from llama_platform.inference.protocol import SamplingParams
from llama_platform.inference.requests import MAX_TEXT_CHARS, effective_temperature
from llama_platform.inference.structure import Structure, grammar_of
from serve_apps.api.openai.structured import ResponseFormat, StructuredOutputs, structures
from serve_apps.api.openai.tolerance import REQUEST, drop_harmless

StopText = Annotated[str, Field(max_length=200)]
Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]


def _no_wish(value: Any) -> Any:
    return None if isinstance(value, int) and not isinstance(value, bool) and value < 0 else value


MaxTokens = Annotated[
    int | None,
    BeforeValidator(_no_wish, json_schema_input_type=int | None),
    Field(description="more than the server's limit is cut to it; null and -1 mean no wish"),
]
MaxTokensNotZero = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(_no_wish),
    WithJsonSchema({"anyOf": [{"type": "integer", "not": {"const": 0}}, {"type": "null"}]}),
    Field(description="more than the server's limit is cut to it; null and -1 mean no wish"),
]


class StreamOptions(BaseModel):
    """How a stream is sent."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool | None = False
    include_obfuscation: bool | None = Field(False, description="accepted; nothing is added to chunks")
    continuous_usage_stats: Literal[False] | None = Field(False, description="vLLM's; only false")


class OpenAIRequest(BaseModel):
    """Fields that both routes share, and those of vLLM's that this engine has, too."""

    model_config = ConfigDict(extra="forbid")
    tolerated: ClassVar[Mapping[str, tuple[Any, ...]]] = REQUEST
    """Fields that are dropped where they ask for nothing."""

    model: Annotated[str, Field(min_length=1, max_length=300)] = Field(
        description="`base`, `base:NAME`, `base:NAME@ALIAS` or `base:NAME@3`"
    )
    max_tokens: MaxTokens = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 1.0
    n: Annotated[int, Field(ge=1, le=128)] | None = 1
    stop: StopText | Annotated[list[StopText], Field(max_length=8)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = 0.0
    stream: bool | None = False
    stream_options: StreamOptions | None = Field(None, description="without `stream` it asks for nothing")
    user: Annotated[str, Field(max_length=200)] | None = None

    top_k: Annotated[int, Field(ge=-1, le=100_000)] | None = 0
    min_p: Annotated[float, Field(ge=0, le=1)] | None = 0.0
    min_tokens: Annotated[int, Field(ge=0)] | None = 0
    repetition_penalty: Annotated[float, Field(ge=0.1, le=2)] | None = 1.0
    ignore_eos: bool | None = False

    logit_bias: (
        Annotated[
            dict[Annotated[str, Field(pattern=r"^[0-9]{1,9}$")], Annotated[float, Field(ge=-100, le=100)]],
            Field(max_length=1024),
        ]
        | None
    ) = Field(None, description="added to the logits of tokens, by id")

    response_format: ResponseFormat | None = Field(
        None, description="what the answer must be: JSON, or JSON of a schema"
    )
    guided_json: dict[str, Any] | str | None = Field(None, description="vLLM's: a JSON schema")
    guided_regex: str | None = Field(None, description="vLLM's: a regular expression")
    guided_choice: list[str] | None = Field(None, description="vLLM's: texts, of which the answer is one")
    structured_outputs: StructuredOutputs | None = Field(None, description="vLLM's: one of the above")

    @model_validator(mode="before")
    @classmethod
    def _drop_what_asks_for_nothing(cls, values: Any) -> Any:
        return drop_harmless(values, cls.tolerated)

    def structure(self) -> Structure | None:
        """Return what the answer must be; None for whatever it is.

        Raises:
            InputError: two are asked for, or one that cannot be kept.
        """
        asked = structures(self.response_format, self.structured_outputs, {
            "guided_json": self.guided_json, "guided_regex": self.guided_regex, "guided_choice": self.guided_choice,
        })  # fmt: skip
        if len(asked) > 1:
            raise InputError(f"{' and '.join(asked)}: an answer has one structure; leave the others out")
        for name, structure in asked.items():
            check_structure(name, structure)
            return structure
        return None

    def stops(self) -> tuple[str, ...]:
        """Return the stop texts; an empty one asks for nothing."""
        texts = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return tuple(text for text in texts if text)

    def include_usage(self) -> bool:
        """Return whether a stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    def sampling(
        self,
        new_tokens: int,
        stop: tuple[str, ...],
        logprobs: int | None,
        scored: int | None,
        structure: Structure | None,
    ) -> SamplingParams:
        """Return the library's form.

        Args:
            new_tokens: bound on the answer's tokens.
            stop: stop texts of the prompt style, besides the request's own.
            logprobs: number of alternatives to each token; None turns log-probabilities off.
            scored: number of alternatives to each token of the prompt; None leaves the prompt unscored.
            structure: what `structure` returned.
        """
        return SamplingParams(
            max_new_tokens=new_tokens,
            min_new_tokens=min(self.min_tokens or 0, new_tokens),
            temperature=effective_temperature(1.0 if self.temperature is None else self.temperature),
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=max(0, self.top_k or 0),
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            # What ends a turn in the prompt's style may stand in a text of the JSON.
            stop=(*self.stops(), *(stop if structure is None or structure.begins_free() else ())),
            logit_bias=tuple(sorted((int(token), bias) for token, bias in (self.logit_bias or {}).items())),
            structure=structure,
            seed=None if self.seed is None else self.seed % 2**63,
            ignore_eos=bool(self.ignore_eos),
            logprobs=logprobs,
            prompt_logprobs=scored,
        )


class CompletionRequest(OpenAIRequest):
    """`POST /v1/completions`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "not": {
                "required": ["max_tokens"],
                "properties": {"max_tokens": {"const": 0}, "echo": {"enum": [False, None]}},
            }
        },
    )

    prompt: (
        Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]
        | Tokens
        | Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MAX_TEXT_CHARS)]], Field(min_length=1, max_length=128)
        ]
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


def check_structure(field: str, structure: Structure) -> None:
    """Check that an engine can keep to a structure.

    Raises:
        InputError: it cannot; the text names the field.
    """
    try:
        grammar_of(structure)
    except InputError as error:
        raise InputError(f"{field}: {error}") from error
