import json

import pyarrow.parquet as pq
import pytest

from datasets_of_sources import prepare_sources
from llama_platform.data.config import DataConfig
from llama_platform.data.tokenize import IGNORED_LABEL, collate, load_tokenized
from llama_platform.models.prompt import Message


def chat(*texts, **last):
    turns = [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(texts)]
    turns[-1] |= last
    return {"messages": turns}


@pytest.fixture
def run(tmp_path, tiny_template):
    """Prepare records; return the report and the rows of both sides."""

    def run(*records, examiner=None, **settings):
        path = tmp_path / "chats.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records))
        config = DataConfig(sources=(str(path),), **{"max_tokens": 64, **settings})
        folder = tmp_path / f"digest{len(list(tmp_path.iterdir()))}"
        report = prepare_sources(config, tiny_template, folder, examiner)
        rows = {side: pq.read_table(folder / f"{side}.parquet").to_pylist() for side in ("train", "eval")}
        return report, rows, folder

    return run


GOOD = [chat(f"question {n} of {n * n}", f"answer {n * 3} to {n}") for n in range(40)]


def test_written_chats_are_tokenized_as_rendered(run, tiny_template, tmp_path):
    _, rows, folder = run(*GOOD)
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
