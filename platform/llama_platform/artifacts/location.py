"""Where artifacts are: the store and this node's cache, as every job and application configures them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from llama_platform.artifacts.repository import ArtifactRepository, open_repository
from llama_platform.config import Config
from llama_platform.errors import ConfigError
from llama_platform.storage.open_store import root_from_environment

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class StoreConfig(Config):
    """The store that holds datasets, adapters, indexes and runs."""

    uri: str | None = None
    """`s3://bucket/prefix` or `file:///folder`. None: `s3://$MODEL_BUCKET/$MODEL_S3_PREFIX`, else `.demo/store`."""
    cache: Path = Path("~/.cache/llama-platform/artifacts")
    """Verified copies on this node's disk; every process of the node shares them."""
    cache_gib: Annotated[float, Field(gt=0)] = 50
    """Bound on the cache; the least recently used artifacts go first."""

    def tokenized(self) -> Path:
        """Return the folder for tokenized datasets, beside the cache."""
        return self.cache.parent / "tokenized"


def absolute(config: StoreConfig, environ: Mapping[str, str]) -> StoreConfig:
    """Return `config` with its URI and cache spelled out, so that it means the same to every process of this node.

    Raises:
        ConfigError: no store is named where a local folder would not last.
    """
    uri = config.uri or root_from_environment(environ)
    if uri is None and in_rays_copy():
        raise ConfigError(
            "no store: this runs in Ray's temporary copy of a working directory, where a local default would be lost; "
            "set store.uri, or MODEL_BUCKET on the cluster"
        )
    uri = uri or ".demo/store"
    if _SCHEME.match(uri) and "://" not in uri:
        scheme, _, rest = uri.partition(":")
        raise ConfigError(f"store {uri!r}: write {scheme}://{rest.lstrip('/')}, or ./{uri} for a folder of that name")
    uri = uri if "://" in uri else Path(uri).absolute().as_uri()
    return config.model_copy(update={"uri": uri, "cache": config.cache.expanduser().absolute()})


def in_rays_copy() -> bool:
    """Return whether this process works in Ray's temporary copy of a working directory, as submitted jobs do."""
    return "runtime_resources" in Path.cwd().parts


def repository_from(config: StoreConfig, environ: Mapping[str, str]) -> ArtifactRepository:
    """Return the configured repository.

    Raises:
        ConfigError: the URI is not one of a store.
    """
    config = absolute(config, environ)
    return open_repository(str(config.uri), config.cache, int(config.cache_gib * 2**30))
