import asyncio

import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.errors import NotFoundError, StorageError
from serve_apps.alias_table import AliasTable


@pytest.fixture
def repository(tmp_path):
    repository = repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    for n in (1, 2):
        repository.publish("adapter", "support", folder, {"n": n})
    Aliases(repository, "adapter", "support").promote("production", 1)
    return repository


def resolve(table, text, subject="x"):
    return asyncio.run(table.resolve(text, subject))[0].version


def test_an_alias_is_read_again_after_its_time(repository):
    remembered, followed = AliasTable(repository, "adapter", 60), AliasTable(repository, "adapter", 0)
    assert (resolve(remembered, "support"), resolve(followed, "support")) == (1, 1)
    Aliases(repository, "adapter", "support").promote("production", 2)
    assert (resolve(remembered, "support"), resolve(followed, "support")) == (1, 2)
    assert resolve(remembered, "support@2") == 2


def test_the_last_known_alias_stays_while_the_store_is_away(repository, monkeypatch):
    table = AliasTable(repository, "adapter", 0)
    assert resolve(table, "support") == 1

    def away(key):
        raise StorageError("away")

    monkeypatch.setattr(repository.store, "read", away)
    assert resolve(table, "support") == 1
    with pytest.raises(StorageError):
        resolve(AliasTable(repository, "adapter", 0), "support")


def test_unknown_names_are_not_found(repository):
    table = AliasTable(repository, "adapter", 0)
    for text in ("nobody", "support@blue", "support@9"):
        with pytest.raises(NotFoundError):
            resolve(table, text)
