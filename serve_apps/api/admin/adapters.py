"""Adapters that come from elsewhere, or go there."""

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from llama_platform.access.keys import check_sees
from llama_platform.artifacts.refs import parse_ref, resolve
from llama_platform.models.adapter_transfer import export_adapter, import_adapter
from llama_platform.models.prompt import PromptStyle
from serve_apps.api.access import caller_of
from serve_apps.api.admin.parameters import VERSION_FORM, Name
from serve_apps.api.state import WithState

routes = APIRouter(prefix="/adapters")
_PART = "[a-z0-9][a-z0-9._-]{0,62}"
REF_FORM = f"^{_PART}(@({_PART}|{VERSION_FORM}))?$"
TRANSFER_TIMEOUT_S = 600.0
"""How long copying a whole adapter from or into a bucket may take."""


class Source(BaseModel):
    """A PEFT folder elsewhere."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[str, Field(pattern=r"^s3://[^/]+", max_length=1000, description="s3://bucket/folder")]
    prompt_style: PromptStyle | None = Field(
        None, description="form of the prompts it was trained with; needed where the folder tells no fingerprint"
    )


class Destination(BaseModel):
    """A folder elsewhere."""

    model_config = ConfigDict(extra="forbid")

    ref: Annotated[
        str,
        Field(
            min_length=1,
            max_length=200,
            description="NAME, NAME@ALIAS or NAME@3",
            json_schema_extra={"pattern": REF_FORM},
        ),
    ]
    destination: Annotated[str, Field(pattern=r"^s3://[^/]+/.", max_length=1000, description="s3://bucket/folder")]


@routes.post("/{name}/import", status_code=201)
async def import_from(name: Name, body: Source, state: WithState) -> dict[str, Any]:
    """Publish a PEFT folder of a bucket as the next version."""
    work = partial(import_adapter, state.repository, name, body.source, body.prompt_style)
    version = await state.pools.store(work, timeout_s=TRANSFER_TIMEOUT_S)
    return {"name": name, "version": version.version, "digest": version.digest}


@routes.post("/export")
async def export_to(body: Destination, request: Request, state: WithState) -> dict[str, Any]:
    """Write a version as a plain PEFT folder into a bucket."""
    check_sees(caller_of(request), "adapter", parse_ref(body.ref).name)
    version = await state.pools.store(resolve, state.repository, "adapter", body.ref)
    work = partial(export_adapter, state.repository, version, body.destination)
    where = await state.pools.store(work, timeout_s=TRANSFER_TIMEOUT_S)
    return {"name": version.name, "version": version.version, "digest": version.digest, "destination": where}
