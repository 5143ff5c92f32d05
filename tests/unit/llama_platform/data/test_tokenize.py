from datasets_of_sources import GOOD
from llama_platform.data.tokenize import IGNORED_LABEL, collate, load_tokenized
from llama_platform.models.prompt import Message


def test_written_chats_are_tokenized_as_rendered(prepare_chats, tiny_template, tmp_path):
    _, rows, folder = prepare_chats(*GOOD)
    tokenized = load_tokenized(folder / "train.parquet", tiny_template, tmp_path / "cache")
    expected = tiny_template.encode_chat([Message(**m) for m in rows["train"][0]["messages"]])
    assert (tokenized[0]["input_ids"], tokenized[0]["trained"]) == (expected.input_ids, expected.trained)
    assert tokenized[0]["length"] == len(expected.input_ids)
    assert len(tokenized) == len(rows["train"])


def test_collate_pads_and_masks():
    rows = [
        {"input_ids": [5, 6, 7], "trained": [False, True, True]},
        {"input_ids": [8], "trained": [True]},
    ]
    batch = collate(rows, pad_token_id=3)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 3, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED_LABEL, 6, 7], [8, IGNORED_LABEL, IGNORED_LABEL]]
