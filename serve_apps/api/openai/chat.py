"""`POST /v1/chat/completions`."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from llama_platform.inference.protocol import FinishEvent, TokenEvent
from serve_apps.api.errors import openai_error_responses
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.openai.logprobs import TokenTexts, chat_logprobs
from serve_apps.api.openai.rendering import frame_of, resolve_model, respond, usage_of
from serve_apps.api.openai.schemas import ChatRequest
from serve_apps.api.responses import context_of
from serve_apps.api.screening import screen_chat
from serve_apps.api.state import AppState, WithState
from serve_apps.generation.completion import Completion
from serve_apps.generation.service import LengthRules

routes = APIRouter(prefix="/v1")


@routes.post("/chat/completions", responses=openai_error_responses())
async def chat(body: ChatRequest, request: Request, state: WithState) -> Any:
    """Answer a chat; one that ends with the assistant's turn is continued."""
    service, context, messages = state.generation, context_of(state, request, body.user), body.to_messages()
    record_of(request).asked("\n".join(turn.content for turn in messages), state.config.log_prompts)
    adapter = await resolve_model(state, context, body.model)
    messages = await screen_chat(state, context, messages)
    continues = messages[-1].role == "assistant"
    encode = service.template.encode_prefix if continues else service.template.encode_prompt
    prompt_ids = await context.deadline.within(state.pools.compute(encode, messages))
    structure = await context.deadline.within(state.pools.compute(body.structure))
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    stops = service.template.stop_strings()
    prepared = await service.prepare(
        [prompt_ids],
        lambda room: body.sampling(body.new_tokens() or room, stops, logprobs, None, structure),
        context,
        adapter=adapter,
        answers_each=body.n or 1,
        length=LengthRules("max_tokens" if body.max_tokens else "max_completion_tokens", cap=True),
        continues=continues,
    )
    return await respond(state, request, context, body, prepared, ChatForm(state, body, context.request_id))


class ChatForm:
    """Shapes of the response; see Form."""

    def __init__(self, state: AppState, body: ChatRequest, request_id: str) -> None:
        """Make what every chunk repeats."""
        self._texts = TokenTexts(state.generation.template.tokenizer)
        self._logprobs, self._each = bool(body.logprobs), body.n or 1
        self._frame = frame_of("chatcmpl-", request_id, body.model, state)

    def whole(self, answers: Sequence[Completion]) -> dict[str, Any]:
        """Return the response."""
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": self._found(answer.tokens),
                "finish_reason": answer.ended.reason,
            }
            for number, answer in enumerate(answers)
        ]
        usage = usage_of(answers, self._each)
        return {**self._frame, "object": "chat.completion", "choices": choices, "usage": usage}

    def begin(self, count: int) -> list[dict[str, Any]]:
        """Return the first chunks, which name the role."""
        return [self._chunk(number, {"role": "assistant", "content": ""}) for number in range(count)]

    def piece(self, number: int, event: TokenEvent) -> dict[str, Any]:
        """Return the chunk of some tokens."""
        return self._chunk(number, {"content": event.text}, self._found([event]))

    def end(self, number: int, event: FinishEvent) -> dict[str, Any]:
        """Return the last chunk of an answer."""
        return self._chunk(number, {}, finish_reason=event.reason)

    def usage(self, answers: Sequence[Completion]) -> dict[str, Any]:
        """Return the chunk with the usage."""
        usage = usage_of(answers, self._each)
        return {**self._frame, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def _found(self, events: Sequence[TokenEvent]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        return chat_logprobs([one for event in events for one in event.logprobs], self._texts)

    def _chunk(
        self, number: int, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**self._frame, "object": "chat.completion.chunk", "choices": [choice]}
