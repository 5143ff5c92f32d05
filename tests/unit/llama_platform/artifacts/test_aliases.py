from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_platform.artifacts.aliases import Aliases, Target, choose
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.artifacts.refs import resolve
from llama_platform.errors import ConflictError, InputError, NotFoundError


@pytest.fixture(params=["file", "s3"])
def aliases(request, tmp_path):
    uri = (tmp_path / "store").as_uri() if request.param == "file" else request.getfixturevalue("s3_uri")
    repository = repository_from(StoreConfig(uri=uri, cache=tmp_path / "cache"), {})
    folder = tmp_path / "content"
    folder.mkdir()
    (folder / "a.json").write_text("{}")
    for n in range(1, 5):
        repository.publish("adapter", "support", folder, {"n": n})
    return Aliases(repository, "adapter", "support")


def versions(document, alias="production"):
    return [target.version for target in document.aliases[alias]]


def test_promote_then_resolve(aliases):
    aliases.promote("production", 2)
    assert resolve(aliases._repository, "adapter", "support", "anyone").version == 2
    assert resolve(aliases._repository, "adapter", "support@4", "anyone").version == 4


def test_an_alias_advances_and_never_goes_back_by_itself(aliases):
    assert aliases.advance("production", 2)
    assert not aliases.advance("production", 1)
    assert versions(aliases.read()) == [2]
    aliases.split("production", {1: 90, 3: 10})
    assert not aliases.advance("production", 2)
    assert aliases.advance("production", 4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda version: aliases.advance("racing", version), [1, 3, 2, 4]))
    assert versions(aliases.read(), "racing") == [4]


def test_rollback_goes_back_and_a_second_one_further(aliases):
    for version in (1, 2, 3):
        aliases.promote("production", version)
    assert versions(aliases.rollback("production")) == [2]
    assert versions(aliases.rollback("production")) == [1]
    with pytest.raises(NotFoundError, match="nothing to roll back to"):
        aliases.rollback("production")
    assert versions(aliases.promote("production", 4)) == [4]
    assert versions(aliases.rollback("production")) == [1]


def test_rollback_touches_its_own_alias_only(aliases):
    aliases.promote("production", 1)
    aliases.promote("canary", 3)
    aliases.promote("production", 2)
    document = aliases.rollback("production")
    assert (versions(document), versions(document, "canary")) == ([1], [3])
    assert document.generation == 4


def test_rollback_of_a_split(aliases):
    aliases.promote("production", 1)
    aliases.split("production", {1: 90, 2: 10})
    assert versions(aliases.rollback("production")) == [1]


def test_history_is_bounded_and_rollback_survives_it(aliases):
    for n in range(105):
        aliases.promote("production", n % 2 + 1)
    document = aliases.read()
    assert len(document.history) == 100
    assert versions(aliases.rollback("production")) == [2]


def test_expected_generation_guards_against_lost_updates(aliases):
    aliases.promote("production", 1, expected_generation=0)
    with pytest.raises(ConflictError, match="generation 1, not 0"):
        aliases.promote("production", 2, expected_generation=0)
    assert versions(aliases.read()) == [1]


def test_racing_changes_are_all_applied(aliases):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: aliases.promote(f"a{n}", n), [1, 2, 3, 4]))
    document = aliases.read()
    assert {alias: versions(document, alias) for alias in document.aliases} == {f"a{n}": [n] for n in (1, 2, 3, 4)}
    assert document.generation == 4


@pytest.mark.parametrize("alias", ["12", "", "A", "a/b"])
def test_alias_names_are_checked(aliases, alias):
    with pytest.raises(InputError):
        aliases.promote(alias, 1)


def test_unknown_versions_and_aliases_are_not_found(aliases):
    with pytest.raises(NotFoundError, match="no version 9"):
        aliases.promote("production", 9)
    with pytest.raises(NotFoundError, match="no alias 'blue'"):
        resolve(aliases._repository, "adapter", "support@blue", "x")
    with pytest.raises(InputError, match="at least 1"):
        aliases.split("production", {1: 0})


def test_a_split_follows_the_weights_and_is_sticky():
    targets = (Target(version=1, weight=90), Target(version=2, weight=10))
    chosen = [choose("support", "production", targets, f"user-{n}") for n in range(10_000)]
    assert abs(chosen.count(2) / 10_000 - 0.10) < 0.01
    assert chosen == [choose("support", "production", targets, f"user-{n}") for n in range(10_000)]


@given(st.integers(1, 99), st.integers(1, 99))
def test_a_changed_weight_moves_subjects_one_way_only(before, after):
    def picks(share):
        targets = (Target(version=1, weight=share), Target(version=2, weight=100 - share))
        return [choose("n", "a", targets, str(s)) for s in range(200)]

    moves = {(a, b) for a, b in zip(picks(before), picks(after), strict=True) if a != b}
    assert len(moves) <= 1


def test_a_promotion_that_changes_nothing_is_no_step_of_the_history(aliases):
    aliases.promote("production", 1)
    promoted = aliases.promote("production", 2)
    assert aliases.promote("production", 2) == promoted
    assert versions(aliases.rollback("production")) == [1]
