"""Shapes of `POST /predict`; its request is `llama_platform.inference.requests.PredictRequest`."""

from pydantic import BaseModel

from llama_platform.inference.protocol import FinishReason
from serve_apps.api.schemas import ModelOut, TimingsOut, UsageOut


class PredictResponse(BaseModel):
    """Answer of `POST /predict`."""

    id: str
    text: str
    finish_reason: FinishReason
    usage: UsageOut
    model: ModelOut
    timings: TimingsOut
