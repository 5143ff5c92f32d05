import json

import pyarrow.parquet as pq
import pytest

from datasets_of_sources import prepare_sources
from llama_platform.data.config import DataConfig
from llama_platform.data.examine import examine_batch


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


def test_the_examiner_may_run_elsewhere(run, tiny_template, tmp_path):
    from llama_platform.batch.examiner import _from_json, _to_json

    config = DataConfig(max_tokens=64)

    def elsewhere(batches):
        for batch in batches:
            yield [_from_json(_to_json(result)) for result in examine_batch(batch, config, tiny_template)]

    here, rows_here, _ = run(*GOOD)
    there, rows_there, _ = run(*GOOD, examiner=elsewhere)
    assert (here, rows_here) == (there, rows_there)
