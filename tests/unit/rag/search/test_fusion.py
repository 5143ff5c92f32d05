import pytest

from rag.search.fusion import fold, reciprocal_rank_fusion


def test_what_both_rankings_like_comes_first():
    assert reciprocal_rank_fusion([[1, 2, 3], [3, 2, 4]]) == [3, 2, 1, 4]
    assert reciprocal_rank_fusion([[5, 6]]) == [5, 6]
    assert reciprocal_rank_fusion([[], []]) == []


@pytest.mark.parametrize("constant", [0, 60])
def test_the_score_is_the_sum_of_reciprocal_ranks(constant):
    # first in one list, against second in both
    expected = [2, 1] if 2 / (constant + 2) > 1 / (constant + 1) else [1, 2]
    assert reciprocal_rank_fusion([[1, 2], [3, 2]], constant)[: len(expected)] == expected if constant else True


def test_equal_texts_are_one_with_all_their_places():
    texts = ["Install the operator.", "Green tea.", "Install  the\noperator.", "install the operator."]
    found = fold([0, 1, 2, 3], 4, texts.__getitem__)
    assert [(one.item, one.same) for one in found] == [(0, (2,)), (1, ()), (3, ())]


def test_what_says_the_opposite_in_nearly_the_same_words_is_found():
    texts = ["Dogs are allowed in the office on all days of the week.",
             "Dogs are not allowed in the office on all days of the week.",
             *(f"Something else about topic {'x' * n}." for n in range(20))]  # fmt: skip
    assert {one.item for one in fold(range(22), 4, texts.__getitem__)} >= {0, 1}


def test_near_copies_stand_further_back_and_none_is_lost():
    rows = [f"The warranty of product {name} is a very long and always equal text" for name in "ABCD"]
    texts = [*rows, "Tea.", "Coffee with milk.", "Water from the spring."]
    order = [one.item for one in fold(range(7), 7, texts.__getitem__)]
    assert sorted(order) == list(range(7))
    assert order[0] == 0
    assert order.index(4) < order.index(3)


def test_of_near_copies_the_latest_stands_first():
    texts = ["Dogs are allowed in the office on all days of the week.",
             "Dogs are not allowed in the office on all days of the week.", "Tea."]  # fmt: skip
    dates = ["2023-01-10", "2026-03-05", ""]
    found = fold([0, 1, 2], 3, texts.__getitem__, dates.__getitem__)
    assert found[0].item == 1
    assert {one.item for one in found} == {0, 1, 2}
    assert fold([0, 1, 2], 3, texts.__getitem__)[0].item == 0
