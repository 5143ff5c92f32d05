from hypothesis import given
from hypothesis import strategies as st

from llama_platform.data.packing import balanced_bins, pack
from llama_platform.data.tokenize import IGNORED_LABEL


@given(st.lists(st.integers(1, 512), min_size=1, max_size=60), st.integers(1, 16))
def test_bins_hold_every_chat_once_and_about_equally_many_tokens(lengths, bins):
    bins = min(bins, len(lengths))
    filled = balanced_bins(lengths, bins)
    assert sorted(index for chosen in filled for index in chosen) == list(range(len(lengths)))
    assert all(filled)
    loads = [sum(lengths[index] for index in chosen) for chosen in filled]
    # Graham's bound for any list schedule; longest-first stays below it.
    assert max(loads) <= sum(lengths) / bins + max(lengths)


def test_a_packed_row_restarts_positions_and_predicts_nothing_across_chats():
    rows = [
        {"input_ids": [1, 5, 6], "trained": [False, False, True]},
        {"input_ids": [1, 7], "trained": [True, True]},
    ]
    batch = pack(rows)
    assert batch["input_ids"].tolist() == [[1, 5, 6, 1, 7]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["labels"].tolist() == [[IGNORED_LABEL, IGNORED_LABEL, 6, IGNORED_LABEL, 7]]
    assert batch["lengths"] == (3, 2)
