"""Ranks of published adapters, for an engine that reserves memory for the highest of them."""

import json
import logging

from llama_platform.artifacts.catalog import list_artifacts
from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.errors import PlatformError
from llama_platform.inference.config import EngineConfig
from llama_platform.models.adapter_folder import CONFIG_FILE

_log = logging.getLogger(__name__)


def with_published_rank(config: EngineConfig, repository: ArtifactRepository) -> EngineConfig:
    """Return the configuration with the highest rank that an alias names, where it has no `max_adapter_rank`.

    It stays as it is where the store cannot be read, or holds no adapter yet.
    """
    if config.max_adapter_rank is not None:
        return config
    try:
        ranks = [
            int(json.loads(repository.fetch_file(version, CONFIG_FILE))["r"])
            for summary in list_artifacts(repository, "adapter")
            for version in summary.aliased
        ]
    except (PlatformError, ValueError, KeyError, TypeError) as error:
        _log.warning("the ranks of published adapters cannot be told (%s); engine.max_adapter_rank says it", error)
        return config
    if not ranks:
        return config
    _log.info("memory for adapters of rank %d, the highest that an alias names", max(ranks))
    return config.model_copy(update={"max_adapter_rank": max(ranks)})
