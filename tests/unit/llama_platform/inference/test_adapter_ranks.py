import json

import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.errors import StorageError
from llama_platform.inference.adapter_ranks import with_published_rank
from llama_platform.inference.config import EngineConfig


@pytest.fixture
def repository(tmp_path):
    return repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})


def publish(repository, tmp_path, name, rank, alias=True):
    folder = tmp_path / f"{name}{rank}"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": rank}))
    version = repository.publish("adapter", name, folder, {})
    if alias:
        Aliases(repository, "adapter", name).promote("production", version.version)
    return version


def test_the_highest_rank_that_an_alias_names(repository, tmp_path):
    assert with_published_rank(EngineConfig(), repository).max_adapter_rank is None
    for name, rank, alias in (("a", 16, True), ("b", 64, True), ("c", 256, False)):
        publish(repository, tmp_path, name, rank, alias)
    assert with_published_rank(EngineConfig(), repository).max_adapter_rank == 64


def test_what_is_configured_stays(repository, tmp_path):
    publish(repository, tmp_path, "a", 64)
    assert with_published_rank(EngineConfig(max_adapter_rank=8), repository).max_adapter_rank == 8


def test_a_store_that_cannot_be_read_changes_nothing(repository, monkeypatch, caplog):
    def away(kind):
        raise StorageError("the store is away")

    monkeypatch.setattr(repository, "names", away)
    assert with_published_rank(EngineConfig(), repository).max_adapter_rank is None
    assert "the store is away" in caplog.text
