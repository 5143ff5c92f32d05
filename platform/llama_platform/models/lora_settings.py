"""LoraSettings: the shape of an adapter, as it is configured."""

from typing import Annotated, Literal

from pydantic import Field

from llama_platform.config import Config

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class LoraSettings(Config):
    """Shape of the trained matrices (Hu et al., 2021, «LoRA»)."""

    r: Annotated[int, Field(ge=1, le=1024)] = 64
    """Rank."""
    alpha: Annotated[int, Field(ge=1)] = 16
    """The update is scaled by alpha / r."""
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead (Kalajdzievski, 2023), which keeps high ranks learning."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """On the input of the matrices, in training only."""
    targets: Annotated[tuple[Projection, ...], Field(min_length=1)] | Literal["all-linear"] = ("q_proj", "v_proj")
    """Projections that get matrices, or `all-linear` for all seven."""
