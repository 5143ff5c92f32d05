"""The console: a page for browsers, in plain modules, that asks the documented routes and nobody else."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from llama_platform.errors import NotFoundError

routes = APIRouter(include_in_schema=False)
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PAGE_FIELDS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cache-Control": "no-cache",
}
"""No script but the console's own, no other host, no frame around it. Browsers ask whether a file has changed."""


@dataclass(frozen=True, slots=True)
class ConsoleFile:
    """One file, as it is sent."""

    content: bytes
    media_type: str
    etag: str


@cache
def console_files() -> dict[str, ConsoleFile]:
    """Return the files by their paths; these alone are sent, whatever is asked for."""
    return dict(_found(files("serve_apps").joinpath("console"), ""))


@routes.get("/console")
async def entrance() -> Response:
    """Lead into the console, whatever stands before this server."""
    return RedirectResponse("console/")


@routes.api_route("/console/{path:path}", methods=["GET", "HEAD"])
async def console(path: str, request: Request) -> Response:
    """Send a file of the console.

    Raises:
        NotFoundError: it has none of this name.
    """
    found = console_files().get(path or "index.html")
    if found is None:
        raise NotFoundError(f"the console has no file '{path[:100]}'")
    fields = {**PAGE_FIELDS, "ETag": found.etag}
    if (
        request.headers.get("if-none-match", "").removeprefix("W/") == found.etag
    ):  # a proxy that compresses makes it weak
        return Response(status_code=304, headers=fields)
    return Response(found.content, media_type=found.media_type, headers=fields)


def _found(folder: Traversable, prefix: str) -> list[tuple[str, ConsoleFile]]:
    entries: list[tuple[str, ConsoleFile]] = []
    for entry in folder.iterdir():
        suffix = entry.name[entry.name.rfind(".") :]
        if entry.is_dir():
            entries += _found(entry, f"{prefix}{entry.name}/")
        elif suffix in TYPES:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            entries.append((f"{prefix}{entry.name}", ConsoleFile(content, TYPES[suffix], etag)))
    return entries
