import pytest

from rag.search.fusion import reciprocal_rank_fusion, without_near_duplicates


def test_what_both_rankings_like_comes_first():
    assert reciprocal_rank_fusion([[1, 2, 3], [3, 2, 4]]) == [3, 2, 1, 4]
    assert reciprocal_rank_fusion([[5, 6]]) == [5, 6]
    assert reciprocal_rank_fusion([[], []]) == []


@pytest.mark.parametrize("constant", [0, 60])
def test_the_score_is_the_sum_of_reciprocal_ranks(constant):
    # first in one list, against second in both
    expected = [2, 1] if 2 / (constant + 2) > 1 / (constant + 1) else [1, 2]
    assert reciprocal_rank_fusion([[1, 2], [3, 2]], constant)[: len(expected)] == expected if constant else True


def test_nearly_equal_texts_appear_once():
    texts = ["Install the operator with Helm.", "install  the operator with helm!", "Green tea.", "Black tea."]
    assert without_near_duplicates([0, 1, 2, 3], 3, texts.__getitem__) == [0, 2, 3]
    assert without_near_duplicates([1, 0, 3], 1, texts.__getitem__) == [1]
    rows = [f"The limit of plan {n} is a very long and always equal text about requests" for n in (1, 2)]
    assert without_near_duplicates([0, 1], 2, rows.__getitem__) == [0, 1]
