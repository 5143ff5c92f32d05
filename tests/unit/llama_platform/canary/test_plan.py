import pytest
from pydantic import ValidationError

from llama_platform.canary.plan import Canary, CanaryPlan, Period, canary_document, list_canaries, running_canaries
from llama_platform.errors import IntegrityError
from llama_platform.storage.open_store import open_store


def test_shares_are_taken_from_the_smallest_to_the_largest():
    assert CanaryPlan(shares=(50, 5, 20, 5)).shares == (5, 20, 50)
    for wrong in ({"shares": ()}, {"shares": (100,)}, {"requests": 1}, {"alpha": 0}, {"guards": ()}):
        with pytest.raises(ValidationError):
            CanaryPlan(**wrong)


def test_the_generation_is_that_of_the_last_period_or_of_the_start():
    assert Canary(since=3).generation == 3
    assert Canary(since=3, periods=(Period(generation=4, share=5), Period(generation=6, share=9))).generation == 6


def test_canaries_are_listed_by_adapter_and_alias(tmp_path):
    store = open_store(tmp_path.as_uri())
    assert list_canaries(store) == []
    for name, status in (("a", "running"), ("b", "promoted")):
        made = Canary(status=status, name=name, alias="production")
        canary_document(store, name, "production").update(lambda _, made=made: made, "a canary")
    assert [canary.name for canary in list_canaries(store)] == ["a", "b"]
    assert [canary.name for canary in running_canaries(store)[0]] == ["a"]
    store.write("canaries/b/production/canary.json", b"{")
    running, (problem,) = running_canaries(store)
    assert [canary.name for canary in running] == ["a"]  # one that is damaged keeps no other waiting
    assert "damaged" in problem
    with pytest.raises(IntegrityError, match="damaged"):
        list_canaries(store)
