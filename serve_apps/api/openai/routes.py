"""OpenAI's API: `/v1/chat/completions`, `/v1/completions` and `/v1/models`; adapters are model ids."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import InputError, NotFoundError
from llama_platform.inference.protocol import FinishEvent, TokenEvent
from serve_apps.api.errors import describe, message_of, openai_error
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.openai.logprobs import TokenTexts, chat_logprobs, completion_logprobs
from serve_apps.api.openai.schemas import ChatRequest, CompletionRequest, OpenAIRequest
from serve_apps.api.responses import observed, split_key
from serve_apps.api.sse import event_stream, message
from serve_apps.api.state import AppState, WithState
from serve_apps.generation.service import BASE, Answer, Task, collect

routes = APIRouter(prefix="/v1")
DONE = message("[DONE]")
DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's own, for completions without `max_tokens`."""


@routes.get("/models")
async def list_models(state: WithState) -> dict[str, Any]:
    """List the base and every adapter with a live alias."""
    names = sorted({name for (name, _), live in state.live.table("adapter").aliases.items() if live.targets})
    models = [_model(state, BASE), *(_model(state, f"{BASE}:{n}") for n in names)]
    if state.searcher is not None:
        embedding = state.config.embedding.model
        models.append({**_model(state, embedding), "root": embedding})
    return {"object": "list", "data": models}


@routes.get("/models/{model:path}")
async def get_model(model: str, request: Request, state: WithState) -> dict[str, Any]:
    """Tell whether a model exists."""
    if state.searcher is not None and model == state.config.embedding.model:
        return {**_model(state, model), "root": model}
    version = await _resolve(state, request, model, None)
    return _model(state, model, version)


@routes.post("/chat/completions")
async def chat(body: ChatRequest, request: Request, state: WithState) -> Any:
    """Answer a chat."""
    deadline, answering, record = state.answering.deadline(), state.answering, record_of(request)
    messages = [turn.to_message() for turn in body.messages]
    record.asked("\n".join(turn.content for turn in messages), state.config.log_prompts)
    adapter = await _resolve(state, request, body.model, body.user)
    prompt_ids = await asyncio.to_thread(answering.template.encode_prompt, messages)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    stops, field = answering.template.stop_strings(), "max_tokens" if body.max_tokens else "max_completion_tokens"
    task = await answering.task(
        [prompt_ids],
        lambda room: body.sampling(body.max_completion_tokens or body.max_tokens or room, stops, logprobs, None),
        request_id=request.state.request_id,
        adapter=adapter,
        deadline=deadline,
        answers_each=body.n or 1,
        length_field=field,
    )
    return await _respond(state, request, body, task, ChatForm(state, body, request.state.request_id))


@routes.post("/completions")
async def complete(body: CompletionRequest, request: Request, state: WithState) -> Any:
    """Go on with a text."""
    deadline, answering, record = state.answering.deadline(), state.answering, record_of(request)
    prompts = body.prompts()
    record.asked("\n".join(map(str, prompts)), state.config.log_prompts)
    adapter = await _resolve(state, request, body.model, body.user)
    encode = answering.template.encode_text
    ids = await asyncio.to_thread(lambda: [encode(p) if isinstance(p, str) else p for p in prompts])
    new_tokens = DEFAULT_COMPLETION_TOKENS if body.max_tokens is None else max(1, body.max_tokens)
    scored = body.logprobs if body.echo else None
    task = await answering.task(
        ids,
        lambda room: body.sampling(
            min(room, new_tokens) if body.max_tokens is None else new_tokens, (), body.logprobs, scored
        ),
        request_id=request.state.request_id,
        adapter=adapter,
        deadline=deadline,
        answers_each=body.n or 1,
        length_field="max_tokens",
        continues=True,
    )
    texts = [p if isinstance(p, str) else answering.template.tokenizer.decode(p) for p in prompts]
    echoed = [text for text in texts for _ in range(body.n or 1)] if body.echo else None
    form = CompletionForm(state, body, request.state.request_id, task, echoed)
    return await _respond(state, request, body, task, form)


class ChatForm:
    """Shapes of `/v1/chat/completions`."""

    def __init__(self, state: AppState, body: ChatRequest, request_id: str) -> None:
        """Keep what every chunk repeats."""
        self._texts = TokenTexts(state.answering.template.tokenizer)
        self._logprobs, self._each = bool(body.logprobs), body.n or 1
        self._frame = _frame("chatcmpl-", request_id, body.model, state)

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Return the response."""
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": answer.text.strip(), "refusal": None},
                "logprobs": self._found(answer.tokens),
                "finish_reason": answer.ended.reason,
            }
            for number, answer in enumerate(answers)
        ]
        return {**self._frame, "object": "chat.completion", "choices": choices, "usage": usage(answers, self._each)}

    def begin(self, count: int) -> list[dict[str, Any]]:
        """Return the first chunks."""
        return [self._chunk(number, {"role": "assistant", "content": ""}) for number in range(count)]

    def piece(self, number: int, event: TokenEvent) -> dict[str, Any]:
        """Return the chunk of some tokens."""
        return self._chunk(number, {"content": event.text}, self._found([event]))

    def end(self, number: int, event: FinishEvent) -> dict[str, Any]:
        """Return the last chunk of an answer."""
        return self._chunk(number, {}, finish_reason=event.reason)

    def usage(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return {**self._frame, "object": "chat.completion.chunk", "choices": [], "usage": usage(answers, self._each)}

    def _found(self, events: Sequence[TokenEvent]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        return chat_logprobs([one for event in events for one in event.logprobs], self._texts)

    def _chunk(
        self, number: int, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None
    ) -> dict[str, Any]:
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**self._frame, "object": "chat.completion.chunk", "choices": [choice]}


class CompletionForm:
    """Shapes of `/v1/completions`."""

    def __init__(
        self, state: AppState, body: CompletionRequest, request_id: str, task: Task, echoed: list[str] | None
    ) -> None:
        """Keep what every chunk repeats.

        Args:
            state: of the ingress.
            body: of the request.
            request_id: of the request.
            task: whose prompts stand before the answers' tokens.
            echoed: the text before each answer; None where prompts are not repeated.
        """
        self._texts = TokenTexts(state.answering.template.tokenizer)
        self._logprobs, self._task, self._echoed = body.logprobs is not None, task, echoed
        self._nothing_new, self._each = body.max_tokens == 0, body.n or 1
        self._frame = _frame("cmpl-", request_id, body.model, state) | {"object": "text_completion"}

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Return the response."""
        choices = []
        for number, answer in enumerate(answers):
            before = self._echoed[number] if self._echoed else ""
            text = before if self._nothing_new else before + answer.text
            choices.append(self._choice(number, text, self._whole_logprobs(number, answer), answer.ended.reason))
        counted = usage(answers, self._each)
        if self._nothing_new:
            counted |= {"completion_tokens": 0, "total_tokens": counted["prompt_tokens"]}
        return {**self._frame, "choices": choices, "usage": counted}

    def begin(self, count: int) -> list[dict[str, Any]]:
        """Return the first chunks: the prompts, if they are repeated."""
        return [self._chunk(number, text) for number, text in enumerate(self._echoed or ())]

    def piece(self, number: int, event: TokenEvent) -> dict[str, Any]:
        """Return the chunk of some tokens."""
        found = completion_logprobs(event.logprobs, self._texts) if self._logprobs else None
        return self._chunk(number, "" if self._nothing_new else event.text, found)

    def end(self, number: int, event: FinishEvent) -> dict[str, Any]:
        """Return the last chunk of an answer."""
        return self._chunk(number, "", finish_reason=event.reason)

    def usage(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return {**self._frame, "choices": [], "usage": usage(answers, self._each)}

    def _whole_logprobs(self, number: int, answer: Answer) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        new = [] if self._nothing_new else [one for event in answer.tokens for one in event.logprobs]
        if not self._echoed:
            return completion_logprobs(new, self._texts)
        first = self._task.requests[number].prompt_ids[0]
        return completion_logprobs([*answer.ended.prompt_logprobs, *new], self._texts, unforetold=first)

    def _chunk(self, number: int, text: str, logprobs: Any = None, finish_reason: str | None = None) -> dict[str, Any]:
        return {**self._frame, "choices": [self._choice(number, text, logprobs, finish_reason)]}

    @staticmethod
    def _choice(number: int, text: str, logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}


async def _respond(
    state: AppState, request: Request, body: OpenAIRequest, task: Task, form: ChatForm | CompletionForm
) -> Any:
    if not body.stream:
        return JSONResponse(form.whole(await collect(observed(state, request, task), len(task.requests))))
    answers = [Answer() for _ in task.requests]

    async def messages() -> AsyncGenerator[str, None]:
        begun = False
        async for batch in observed(state, request, task):
            if not begun:
                begun = True
                for chunk in form.begin(len(answers)):
                    yield message(chunk)
            for number, event in batch:
                answers[number].add(event)
                yield message(form.end(number, event) if isinstance(event, FinishEvent) else form.piece(number, event))
        if body.include_usage():
            yield message(form.usage(answers))
        yield DONE

    def failed(error: Exception) -> str:
        problem = describe(error, request.state.request_id)
        record_of(request).failed(problem.code)
        return message(openai_error(problem))

    return await event_stream(messages(), failed, state.config.heartbeat_s)


async def _resolve(state: AppState, request: Request, model: str, user: str | None) -> ArtifactVersion | None:
    """Return the adapter that a model id names; None for the base.

    Raises:
        NotFoundError: there is no such model.
    """
    base, _, adapter = model.partition(":")
    if base not in (BASE, state.config.base.model) or (":" in model and not adapter):
        raise NotFoundError(f"model: there is no model '{model}'; /v1/models lists them")
    try:
        found = await state.answering.resolve(adapter or None, split_key(request, user))
    except (InputError, NotFoundError) as error:
        raise NotFoundError(f"model: there is no model '{model}': {message_of(error)}") from error
    record_of(request).answered_by(found)
    return found


def usage(answers: Sequence[Answer], each: int) -> dict[str, Any]:
    """Return the usage of a request; a prompt counts once, however many answers it has.

    Args:
        answers: `each` to every prompt.
        each: answers to a prompt.
    """
    ends = [answer.ended.usage for answer in answers]
    prompt, new = sum(end.prompt_tokens for end in ends[::each]), sum(end.completion_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": new,
        "total_tokens": prompt + new,
        "prompt_tokens_details": {"cached_tokens": sum(end.cached_tokens for end in ends[::each])},
    }


def _frame(prefix: str, request_id: str, model: str, state: AppState) -> dict[str, Any]:
    return {
        "id": f"{prefix}{request_id}",
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": state.answering.fingerprint[:16],
    }


def _model(state: AppState, model: str, version: ArtifactVersion | None = None) -> dict[str, Any]:
    facts = {"version": version.version, "digest": version.digest} if version else {}
    return {
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": "llama-platform",
        "root": state.config.base.model,
        **facts,
    }
