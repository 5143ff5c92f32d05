import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.verify import verify_store


@pytest.fixture
def repository(tmp_path):
    found = repository_from(StoreConfig(uri=(tmp_path / "store").as_uri(), cache=tmp_path / "cache"), {})
    for kind, name in (("adapter", "support"), ("dataset", "chats"), ("checkpoint", "run")):
        for content in ("one", "two"):
            folder = tmp_path / "content"
            folder.mkdir(exist_ok=True)
            (folder / "a.txt").write_text(content)
            found.publish(kind, name, folder, {})
    Aliases(found, "adapter", "support").promote("production", 2)
    return found


def files(repository, part):
    return [key for key in repository.store.list_keys("") if part in key]


def test_a_whole_store_has_no_problem(repository):
    found, problems = verify_store(repository)
    assert problems == []
    assert (found.versions, found.files, found.bytes) == (6, 6, 18)


@pytest.mark.parametrize(
    ("part", "harm", "problem"),
    [
        ("models/support/objects", "change", "does not match its sha256"),
        ("runs/run/checkpoints/objects", "delete", "missing"),
        ("manifest.json", "delete", "missing"),
        ("datasets/chats/versions/1.json", "change", "damaged commit record"),
    ],
)
def test_whatever_is_damaged_or_missing_is_named(repository, part, harm, problem):
    key = files(repository, part)[0]
    if harm == "change":
        repository.store.write(key, b"xyz")
    else:
        repository.store.delete(key)
    problems = verify_store(repository)[1]
    assert len(problems) == 1
    assert problem in problems[0]
    assert key in problems[0] or "version" in problems[0]


def test_an_alias_that_points_nowhere_is_named(repository):
    repository.store.delete("models/support/versions/2.json")
    assert verify_store(repository)[1] == [
        "adapter support: alias 'production' points at version 2, which there is not"
    ]
