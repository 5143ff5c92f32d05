"""`POST /v1/chat/completions`."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from llama_platform.inference.protocol import FinishEvent, TokenEvent
from serve_apps.api.errors import openai_error_responses
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.openai.chat_schemas import ChatRequest
from serve_apps.api.openai.logprobs import TokenTexts, chat_logprobs
from serve_apps.api.openai.rendering import frame_of, resolve_model, respond, usage_of
from serve_apps.api.openai.tool_calls import CallPiece, ToolCallReader, calls_of
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
    if not continues:  # of an answer that goes on with its beginning, only the rest is the model's
        record_of(request).converses(messages, body.user)
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
    calls = structure is not None and structure.kind == "tools"
    is_json = structure is not None and calls and not structure.begins_free()
    form = ChatForm(state, body, context.request_id, calls=calls, is_json=is_json)
    return await respond(state, request, context, body, prepared, form)


class ChatForm:
    """Shapes of the response; see Form."""

    def __init__(self, state: AppState, body: ChatRequest, request_id: str, *, calls: bool, is_json: bool) -> None:
        """Make what every chunk repeats.

        Args:
            state: collaborators of the routes.
            body: the request's body.
            request_id: id of the request.
            calls: whether answers may call functions.
            is_json: whether answers without calls are JSON.
        """
        self._calls, self._call_id = calls, f"call-{request_id}"
        self._is_json = is_json
        self._readers = [ToolCallReader(is_json=self._is_json) for _ in range(body.n or 1)]
        self._texts = TokenTexts(state.generation.template.tokenizer)
        self._logprobs, self._each = bool(body.logprobs), body.n or 1
        self._frame = frame_of("chatcmpl-", request_id, body.model, state)

    def whole(self, answers: Sequence[Completion]) -> dict[str, Any]:
        """Return the response."""
        choices = []
        for number, answer in enumerate(answers):
            message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
            reason: str = answer.ended.reason
            if self._calls:
                text, calls, whole = calls_of(answer.text, f"{self._call_id}-{number}", is_json=self._is_json)
                message["content"] = text or (None if calls else "")
                message |= {"tool_calls": calls} if calls else {}
                reason = _reason(reason, len(calls), whole)
            logprobs = self._found(answer.tokens)
            choices.append({"index": number, "message": message, "logprobs": logprobs, "finish_reason": reason})
        usage = usage_of(answers, self._each)
        return {**self._frame, "object": "chat.completion", "choices": choices, "usage": usage}

    def begin(self, count: int) -> list[dict[str, Any]]:
        """Return the first chunks, which name the role."""
        return [self._chunk(number, {"role": "assistant", "content": ""}) for number in range(count)]

    def piece(self, number: int, event: TokenEvent) -> dict[str, Any] | None:
        """Return the chunk of some tokens; None where nothing can be told of them yet."""
        if not self._calls:
            return self._chunk(number, {"content": event.text}, self._found([event]))
        text, pieces = self._readers[number].feed(event.text)
        delta: dict[str, Any] = {"content": text} if text else {}
        if pieces:
            delta["tool_calls"] = [self._call_delta(number, piece) for piece in pieces]
        return self._chunk(number, delta, self._found([event])) if delta or self._logprobs else None

    def end(self, number: int, event: FinishEvent) -> dict[str, Any]:
        """Return the last chunk of an answer."""
        reader = self._readers[number]
        rest = reader.finish()
        reason = _reason(event.reason, reader.count, not reader.open)
        return self._chunk(number, {"content": rest} if rest else {}, finish_reason=reason)

    def _call_delta(self, number: int, piece: CallPiece) -> dict[str, Any]:
        if piece.name is None:
            return {"index": piece.number, "function": {"arguments": piece.arguments}}
        function = {"name": piece.name, "arguments": piece.arguments}
        call_id = f"{self._call_id}-{number}-{piece.number}"
        return {"index": piece.number, "id": call_id, "type": "function", "function": function}

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


def _reason(reason: str, calls: int, whole: bool) -> str:
    """Return why an answer has ended: a call that is not whole never pretends to be."""
    if reason == "content_filter":
        return reason
    if not whole:
        return "length"
    return "tool_calls" if calls and reason == "stop" else reason
