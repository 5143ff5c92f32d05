import pytest

from llama_platform.training.batching.sampler import (
    micro_batches,
)


@pytest.mark.parametrize("batching", ["packed", "grouped", "padded"])
def test_every_way_of_batching_has_the_same_chats_in_as_many_micro_batches(batching):
    chats, lengths = [9, 4, 7, 1, 3, 8], [1, 100, 2, 99, 50, 51]
    groups = micro_batches(chats, lengths, 2, batching)
    assert sorted(chat for group in groups for chat in group) == sorted(chats)
    assert len(groups) == 3


def test_groups_are_of_like_length_and_packs_of_like_size():
    chats, lengths = [0, 1, 2, 3], [1, 100, 2, 99]
    assert sorted(map(sorted, micro_batches(chats, lengths, 2, "grouped"))) == [[0, 2], [1, 3]]
    assert sorted(map(sorted, micro_batches(chats, lengths, 2, "packed"))) == [[0, 1], [2, 3]]
    assert micro_batches(chats, lengths, 2, "padded") == [[0, 1], [2, 3]]
