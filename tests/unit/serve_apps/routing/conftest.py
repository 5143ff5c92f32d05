"""Fixtures of the tests of routing."""

import pytest

from artifact_folders import import_versions
from llama_platform.artifacts.aliases import Aliases


@pytest.fixture
def versions(repository, adapter_folder, tmp_path):
    """Three versions; the third is damaged."""
    import_versions(repository, adapter_folder, tmp_path, 3)
    third = repository.version("adapter", "support", 3)
    repository.store.write(f"models/support/objects/{third.digest}/adapter_model.safetensors", b"\x00" * 100)
    Aliases(repository, "adapter", "support").promote("production", 1)
