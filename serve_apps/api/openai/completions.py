"""`POST /v1/completions`."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request

from llama_platform.inference.protocol import FinishEvent, TokenEvent
from serve_apps.api.errors import openai_error_responses
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.openai.logprobs import TextOffsets, TokenTexts, completion_logprobs
from serve_apps.api.openai.rendering import frame_of, resolve_model, respond, usage_of
from serve_apps.api.openai.schemas import CompletionRequest
from serve_apps.api.responses import context_of
from serve_apps.api.screening import screen_texts
from serve_apps.api.state import AppState, WithState
from serve_apps.generation.completion import Completion
from serve_apps.generation.service import LengthRules, PreparedRequest, RequestContext

routes = APIRouter(prefix="/v1")
DEFAULT_TOKENS = 16
"""OpenAI's own bound, where a request names none."""


@routes.post("/completions", responses=openai_error_responses())
async def complete(body: CompletionRequest, request: Request, state: WithState) -> Any:
    """Go on with a text."""
    service, context, prompts = state.generation, context_of(state, request, body.user), body.prompts()
    record_of(request).asked("\n".join(map(str, prompts)), state.config.log_prompts)
    adapter = await resolve_model(state, context, body.model)
    prompts = await _screened(state, context, prompts)
    encode = service.template.encode_text
    encoding = state.pools.compute(lambda: [encode(p) if isinstance(p, str) else p for p in prompts])
    ids = await context.deadline.within(encoding)
    structure = await context.deadline.within(state.pools.compute(body.structure))
    new_tokens = DEFAULT_TOKENS if body.max_tokens is None else max(1, body.max_tokens)
    scored = body.logprobs if body.echo else None
    prepared = await service.prepare(
        ids,
        lambda room: body.sampling(
            min(room, new_tokens) if body.max_tokens is None else new_tokens, (), body.logprobs, scored, structure
        ),
        context,
        adapter=adapter,
        answers_each=body.n or 1,
        length=LengthRules("max_tokens", cap=True),
        continues=True,
    )
    echoed = None
    if body.echo:
        decode = service.template.tokenizer.decode
        texts = await state.pools.compute(lambda: [p if isinstance(p, str) else decode(p) for p in prompts])
        echoed = [text for text in texts for _ in range(body.n or 1)]
    form = CompletionForm(state, body, context.request_id, prepared, echoed)
    return await respond(state, request, context, body, prepared, form)


async def _screened(
    state: AppState, context: RequestContext, prompts: Sequence[str | list[int]]
) -> list[str | list[int]]:
    """Return prompts as the model may read them; token ids are screened as the text that they are."""
    if not context.screens.input and state.generation.moderator is None:
        return list(prompts)
    decode = state.generation.template.tokenizer.decode
    texts = await state.pools.compute(lambda: [p if isinstance(p, str) else decode(p) for p in prompts])
    kept = await screen_texts(state, context, texts)
    return [new if new != text else prompt for prompt, text, new in zip(prompts, texts, kept, strict=True)]


class CompletionForm:
    """Shapes of the response; see Form."""

    def __init__(
        self,
        state: AppState,
        body: CompletionRequest,
        request_id: str,
        prepared: PreparedRequest,
        echoed: list[str] | None,
    ) -> None:
        """Make what every chunk repeats.

        Args:
            state: collaborators of the routes.
            body: the request's body.
            request_id: id of the request.
            prepared: its prompts stand before the answers' tokens.
            echoed: the text before each answer; None where prompts are not repeated.
        """
        self._texts = TokenTexts(state.generation.template.tokenizer)
        self._logprobs, self._prepared, self._echoed = body.logprobs is not None, prepared, echoed
        self._nothing_new, self._each = body.max_tokens == 0, body.n or 1
        self._frame = frame_of("cmpl-", request_id, body.model, state) | {"object": "text_completion"}
        # A stream's places go on from chunk to chunk, behind the prompt if that is repeated.
        starts = [len(text) for text in echoed] if echoed else [0] * len(prepared.requests)
        self._offsets = [TextOffsets(self._texts, start) for start in starts]

    def whole(self, answers: Sequence[Completion]) -> dict[str, Any]:
        """Return the response."""
        choices = []
        for number, answer in enumerate(answers):
            before = self._echoed[number] if self._echoed else ""
            text = before if self._nothing_new else before + answer.text
            choices.append(self._choice(number, text, self._whole_logprobs(number, answer), answer.ended.reason))
        return {**self._frame, "choices": choices, "usage": self._usage(answers)}

    def begin(self, count: int) -> list[dict[str, Any]]:
        """Return the first chunks: the prompts, if they are repeated."""
        return [self._chunk(number, text) for number, text in enumerate(self._echoed or ())]

    def piece(self, number: int, event: TokenEvent) -> dict[str, Any]:
        """Return the chunk of some tokens."""
        found = completion_logprobs(event.logprobs, self._texts, self._offsets[number]) if self._logprobs else None
        return self._chunk(number, "" if self._nothing_new else event.text, found)

    def end(self, number: int, event: FinishEvent) -> dict[str, Any]:
        """Return the last chunk of an answer."""
        return self._chunk(number, "", finish_reason=event.reason)

    def usage(self, answers: Sequence[Completion]) -> dict[str, Any]:
        """Return the chunk with the usage."""
        return {**self._frame, "choices": [], "usage": self._usage(answers)}

    def _usage(self, answers: Sequence[Completion]) -> dict[str, Any]:
        counted = usage_of(answers, self._each)
        if self._nothing_new:  # a token is computed, and not shown
            counted |= {"completion_tokens": 0, "total_tokens": counted["prompt_tokens"]}
        return counted

    def _whole_logprobs(self, number: int, answer: Completion) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        new = [] if self._nothing_new else [one for event in answer.tokens for one in event.logprobs]
        offsets = TextOffsets(self._texts)
        if not self._echoed:
            return completion_logprobs(new, self._texts, offsets)
        first = self._prepared.requests[number].prompt_ids[0]
        return completion_logprobs([*answer.ended.prompt_logprobs, *new], self._texts, offsets, unscored=first)

    def _chunk(self, number: int, text: str, logprobs: Any = None, finish_reason: str | None = None) -> dict[str, Any]:
        return {**self._frame, "choices": [self._choice(number, text, logprobs, finish_reason)]}

    @staticmethod
    def _choice(number: int, text: str, logprobs: Any, finish_reason: str | None) -> dict[str, Any]:
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
