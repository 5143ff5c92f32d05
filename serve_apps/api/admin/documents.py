"""Documents of indexes: listed, uploaded and deleted; what changes an index is queued as a job of the cluster."""

import re
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, UploadFile
from pydantic import BaseModel, ConfigDict, Field

from llama_platform.artifacts.manifest import check_name
from llama_platform.artifacts.refs import resolve
from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.errors import NotFoundError, PlatformError
from rag.indexed_documents import DOCUMENTS_FILE, IndexedDocument, read_documents
from rag.indexing.changes import discard_change, store_change
from serve_apps.api.admin.parameters import ALIAS_FORM, VERSION_FORM, Alias, Name
from serve_apps.api.state import AppState, WithState

routes = APIRouter(prefix="/indexes")
JOBS_TIMEOUT_S = 60.0
"""How long the cluster may take to answer for its jobs."""
Id = Annotated[str, Field(min_length=1, max_length=512)]
VERSION_PATTERN = {"pattern": f"({ALIAS_FORM})|(^{VERSION_FORM}$)"}
UPLOAD_PATH = re.compile(r"/admin/indexes/[^/]+/documents")


class Deletion(BaseModel):
    """Documents that the next version leaves out."""

    model_config = ConfigDict(extra="forbid")

    documents: Annotated[list[Id], Field(min_length=1, max_length=1000)]
    """Ids; one that ends with `/` or `#` means all that begin so."""
    promote: Alias | None = "production"
    """Alias that is pointed at the new version."""


@routes.get("/{name}/documents")
async def list_documents(
    name: Name,
    state: WithState,
    version: Annotated[
        str, Query(max_length=63, description="an alias or a number", json_schema_extra=VERSION_PATTERN)
    ] = "production",
    start: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """List the documents of a version, in the order of their ids."""
    # As the store says, not as it is live: what is refused can be looked at, too.
    found = await state.pools.store(resolve, state.repository, "index", f"{name}@{version}", "administration")
    documents = await state.pools.store(_documents, state.repository, found)
    return {
        "name": name,
        "version": found.version,
        "total": len(documents),
        "documents": [asdict(document) for document in documents[start : start + limit]],
    }


@routes.post("/{name}/documents", status_code=202)
async def upload(
    name: Name,
    state: WithState,
    files: Annotated[list[UploadFile], File(min_length=1)],
    promote: Annotated[Alias, Form(description="alias that is pointed at the new version")] = "production",
) -> dict[str, Any]:
    """Queue documents for an index: they are added, or replace those with the same id; the index may be a new one."""
    check_name(name)
    contents = [(file.filename or "", await file.read()) for file in files]
    return await _queue(state, name, files=contents, promote=promote)


@routes.post("/{name}/documents/delete", status_code=202)
async def delete(name: Name, body: Deletion, state: WithState) -> dict[str, Any]:
    """Queue the next version of an index, without these documents."""
    await state.pools.store(state.repository.latest, "index", name)
    return await _queue(state, name, delete=body.documents, promote=body.promote)


@routes.get("/{name}/jobs/{job_id}")
async def show_job(name: Name, job_id: str, state: WithState) -> dict[str, Any]:
    """Tell how far a queued change is.

    Raises:
        NotFoundError: the index has no such job.
        UnavailableError: the cluster does not tell right now.
    """
    if not re.fullmatch(rf"index-{re.escape(name)}-[0-9a-f]{{12}}", job_id):
        raise NotFoundError(f"index '{name}' has no job '{job_id[:100]}'")
    return asdict(await state.pools.store(state.jobs.status, job_id, timeout_s=JOBS_TIMEOUT_S))


async def _queue(state: AppState, index: str, **change: Any) -> dict[str, Any]:
    change_id = await state.pools.store(partial(store_change, state.repository, index, **change))
    try:
        job = await state.pools.store(state.jobs.submit, index, change_id, timeout_s=JOBS_TIMEOUT_S)
    except PlatformError:
        await state.pools.store(discard_change, state.repository, index, change_id)
        raise
    return {"job": job, "status": f"/admin/indexes/{index}/jobs/{job}"}


def _documents(repository: ArtifactRepository, version: ArtifactVersion) -> list[IndexedDocument]:
    return read_documents(repository.fetch_file(version, DOCUMENTS_FILE))
