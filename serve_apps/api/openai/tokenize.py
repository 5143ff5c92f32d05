"""`/tokenize` and `/detokenize`, in vLLM's form: what a prompt costs before it is sent."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from llama_platform.errors import InputError
from llama_platform.inference.requests import MAX_TEXT_CHARS, one_of
from llama_platform.models.prompt import Message
from serve_apps.api.errors import error_responses
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.openai.chat_schemas import ChatMessage, chat_of
from serve_apps.api.openai.rendering import resolve_model
from serve_apps.api.openai.schemas import Tokens
from serve_apps.api.openai.tools import ToolIn
from serve_apps.api.responses import context_of
from serve_apps.api.state import WithState

routes = APIRouter()
Model = Annotated[str, Field(min_length=1, max_length=300)]


class TokenizeRequest(BaseModel):
    """A text, or a chat as `/v1/chat/completions` would render it."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=one_of("prompt", "messages"))

    model: Model | None = Field(None, description="as of completions; every model here has the same tokens")
    prompt: Annotated[str, Field(max_length=MAX_TEXT_CHARS)] | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=1000)] | None = None
    tools: Annotated[list[ToolIn], Field(max_length=128)] | None = None
    add_special_tokens: bool = Field(
        True, description="whether BOS stands before a prompt; before a chat it always does"
    )
    return_token_strs: bool = Field(False, description="whether the tokens' texts are told, too")

    @model_validator(mode="after")
    def _one_of_both(self) -> "TokenizeRequest":
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' or 'messages'")
        return self

    def to_messages(self) -> list[Message]:
        """Return the chat; see ChatRequest."""
        return chat_of(self.messages or [], self.tools, None)


class DetokenizeRequest(BaseModel):
    """Tokens."""

    model_config = ConfigDict(extra="forbid")

    model: Model | None = None
    tokens: Annotated[Tokens, Field(max_length=MAX_TEXT_CHARS)]


@routes.post("/tokenize", responses=error_responses())
async def tokenize(body: TokenizeRequest, request: Request, state: WithState) -> dict[str, Any]:
    """Return the tokens that a text or a chat has for the model."""
    service, context = state.generation, context_of(state, request, None)
    if body.model is not None:
        await resolve_model(state, context, body.model)
    template = service.template

    def encode() -> list[int]:
        if body.messages is not None:
            messages = body.to_messages()
            continues = messages[-1].role == "assistant"
            return template.encode_prefix(messages) if continues else template.encode_prompt(messages)
        ids = template.encode_text(body.prompt or "")
        return ids if body.add_special_tokens else ids[1:]

    record_of(request).asked(body.prompt or "", state.config.log_prompts)
    ids = await context.deadline.within(state.pools.compute(encode))
    texts = template.tokenizer.convert_ids_to_tokens(ids) if body.return_token_strs else None
    longest = await service.context_length(context.deadline)
    return {"count": len(ids), "max_model_len": longest, "tokens": ids, "token_strs": texts}


@routes.post("/detokenize", responses=error_responses())
async def detokenize(body: DetokenizeRequest, request: Request, state: WithState) -> dict[str, str]:
    """Return the text of tokens."""
    context, tokenizer = context_of(state, request, None), state.generation.template.tokenizer
    if body.model is not None:
        await resolve_model(state, context, body.model)
    if unknown := [token for token in body.tokens if token >= len(tokenizer)]:
        raise InputError(f"tokens: {unknown[0]} is no token of this model")
    text = await context.deadline.within(state.pools.compute(tokenizer.decode, body.tokens))
    return {"prompt": text}
