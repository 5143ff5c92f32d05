"""`POST /predict`: an answer to a prompt or a chat."""

from collections.abc import AsyncGenerator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from llama_platform.inference.protocol import FinishEvent
from llama_platform.inference.requests import PredictRequest
from serve_apps.api.errors import error_responses
from serve_apps.api.middleware.access_log import record_of
from serve_apps.api.predict.schemas import PredictResponse
from serve_apps.api.responses import context_of, error_event, prepare_one, response_metadata
from serve_apps.api.screening import screen_chat
from serve_apps.api.sse import event_stream, message
from serve_apps.api.state import WithState
from serve_apps.generation.completion import gather

routes = APIRouter()


@routes.post("/predict", response_model=PredictResponse, responses=error_responses())
async def predict(body: PredictRequest, request: Request, state: WithState) -> Any:
    """Answer a prompt or messages; with `stream`, as server-sent events."""
    service, messages, context = state.generation, body.to_messages(), context_of(state, request, body.user)
    record_of(request).asked("\n".join(m.content for m in messages), state.config.log_prompts)
    messages = await screen_chat(state, context, messages)
    record_of(request).converses(messages, body.user)
    encoding = state.pools.compute(service.template.encode_prompt, messages)
    prompt_ids = await context.deadline.within(encoding)
    prepared = await prepare_one(state, context, body, prompt_ids, body.adapter or state.config.adapter)
    if not body.stream:
        (answer,) = await gather(service.stream(prepared, context), 1)
        done = response_metadata(state, prepared.adapter, answer.ended)
        return JSONResponse({"id": context.request_id, "text": answer.text, **done})

    async def messages_of() -> AsyncGenerator[str, None]:
        async for batch in service.stream(prepared, context):
            for _, event in batch:
                if isinstance(event, FinishEvent):
                    done = response_metadata(state, prepared.adapter, event)
                    yield message({"id": context.request_id, **done}, "done")
                elif event.text:
                    yield message({"text": event.text}, "token")

    return await event_stream(messages_of(), error_event(request), state.config.heartbeat_s)
