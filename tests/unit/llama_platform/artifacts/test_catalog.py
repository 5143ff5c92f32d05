import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.catalog import list_artifacts, show_version, summarize
from llama_platform.artifacts.repository import open_repository


@pytest.fixture
def repository(tmp_path):
    repository = open_repository((tmp_path / "store").as_uri(), tmp_path / "cache")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a.json").write_text("{}")
    for name, count in (("support", 3), ("sales", 1)):
        for n in range(count):
            repository.publish("adapter", name, tmp_path / "files", {"n": n})
    Aliases(repository, "adapter", "support").promote("production", 2)
    return repository


def test_names_come_with_all_versions_and_those_that_aliases_name(repository):
    sales, support = list_artifacts(repository, "adapter")
    assert (sales.name, sales.versions, sales.aliased) == ("sales", (1,), ())
    shown = support.to_json()
    assert (shown["all_versions"], shown["generation"]) == ([1, 2, 3], 1)
    assert shown["aliases"] == {"production": [{"version": 2, "weight": 1}]}
    assert [version["version"] for version in shown["versions"]] == [2]
    assert summarize(repository, "adapter", "nobody").versions == ()


def test_a_version_shows_its_files_and_origin(repository):
    shown = show_version(repository, repository.version("adapter", "support", 3))
    assert (shown["version"], shown["metadata"], list(shown["files"])) == (3, {"n": 2}, ["a.json"])
    assert shown["uri"].endswith(f"models/support/objects/{shown['digest']}")
