from llama_platform.inference.torch_engine.batch import PAGE, Chunk, arrange


def test_only_sampled_chunks_have_logits_and_their_order_is_told():
    batch = arrange([Chunk([1], 0, [0], 5), Chunk([2, 3], 0, [1], -1, logits=0), Chunk([4], PAGE, [2, 3], 5)])
    assert batch.order == (1, 0, 2)
    assert batch.groups == ((2, 2, 5),)
    assert batch.slots.tolist() == [PAGE, PAGE + 1, 0, 3 * PAGE]
    assert batch.sampled_rows.tolist() == [2, 3]
