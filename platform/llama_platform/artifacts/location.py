"""Where artifacts are: the store and this node's cache, as every job and application configures them."""

from collections.abc import Mapping
from pathlib import Path

from llama_platform.artifacts.repository import ArtifactRepository, open_repository
from llama_platform.config import Config
from llama_platform.storage.open_store import root_from_environment


class StoreConfig(Config):
    """The store that holds datasets, adapters, indexes and runs."""

    uri: str | None = None
    """`s3://bucket/prefix` or `file:///folder`. None: `s3://$MODEL_BUCKET/$MODEL_S3_PREFIX`, else `.demo/store`."""
    cache: Path = Path("~/.cache/llama-platform/artifacts")
    """Verified copies on this node's disk; every process of the node shares them."""
    cache_gib: float = 50
    """Bound on the cache; the least recently used artifacts go first."""


def repository_from(config: StoreConfig, environ: Mapping[str, str]) -> ArtifactRepository:
    """Return the configured repository.

    Raises:
        ConfigError: the URI is not one of a store.
    """
    uri = config.uri or root_from_environment(environ) or ".demo/store"
    return open_repository(uri, config.cache.expanduser(), int(config.cache_gib * 2**30))
