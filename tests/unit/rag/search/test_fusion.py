import numpy as np
import pytest

from rag.search.fusion import fold, weighted_fusion


@pytest.mark.parametrize(("weight", "order"), [(1, [3, 5, 9]), (0, [9, 5, 3]), (0.5, [5, 9, 3]), (0.2, [9, 5, 3])])
def test_meaning_and_words_count_by_their_weight(weight, order):
    rows, near = np.array([3, 5, 9]), np.array([0.9, 0.8, -0.4], dtype=np.float32)
    assert weighted_fusion(rows, near, np.array([0.0, 6.0, 12.0], dtype=np.float32), weight) == order


def test_without_common_words_meaning_counts_alone():
    rows, near, none = np.array([1, 2]), np.array([0.1, 0.2], dtype=np.float32), np.zeros(2, dtype=np.float32)
    assert weighted_fusion(rows, near, none, 0.5) == [2, 1]
    assert weighted_fusion(rows[:0], near[:0], none[:0], 0.5) == []


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
