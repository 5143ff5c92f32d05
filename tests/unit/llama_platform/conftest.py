"""Fixtures of the library's tests."""

import json

import pyarrow.parquet as pq
import pytest

from datasets_of_sources import prepare_sources
from llama_platform.data.config import DataConfig


@pytest.fixture
def prepare_chats(tmp_path, tiny_template):
    """Prepare records; return the report, the rows of both sides and their folder."""

    def run(*records, examiner=None, **settings):
        path = tmp_path / "chats.jsonl"
        path.write_text("\n".join(json.dumps(record) for record in records))
        config = DataConfig(sources=(str(path),), **{"max_tokens": 64, **settings})
        folder = tmp_path / f"digest{len(list(tmp_path.iterdir()))}"
        report = prepare_sources(config, tiny_template, folder, examiner)
        rows = {side: pq.read_table(folder / f"{side}.parquet").to_pylist() for side in ("train", "eval")}
        return report, rows, folder

    return run
