import json

import pyarrow as pa
import pyarrow.parquet as pq

from llama_platform.data.checks.findings import FindingCounts
from llama_platform.data.prepare import SCHEMA
from llama_platform.data.report.page import write_report
from llama_platform.data.report.values import ChatCounts, DatasetReport, PromptIdentity, TokenCounts


def test_the_page_shows_samples_as_text_and_marks_what_is_trained(tmp_path, tiny_template):
    messages = [
        {"role": "user", "content": "<script>1</script>", "trained": False},
        {"role": "assistant", "content": "Grüße", "trained": True},
    ]
    row = {"messages": messages, "num_tokens": 9, "num_trained_tokens": 4, "source": "a.jsonl:1"}
    pq.write_table(pa.Table.from_pylist([row], schema=SCHEMA), tmp_path / "train.parquet")
    report = DatasetReport(
        name="chats",
        sources=(),
        chats=ChatCounts(read=1, kept=1, train=1, eval=0),
        tokens={"train": TokenCounts(all=9, trained=4, longest=9), "eval": TokenCounts(all=0, trained=0, longest=0)},
        held_out_answers_known=0.0,
        findings={"email": FindingCounts(count=2, actions={"warn": 2}, places=())},
        prompt=PromptIdentity("plain", "f" * 64),
        train_on="answers",
    )
    distributions = {"tokens": [9], "turns": [2], "trained_share": [0.4]}
    write_report(report, distributions, tmp_path, tiny_template, 512)
    page = (tmp_path / "report.html").read_text()
    assert "<script>1" not in page
    assert '<span class="trained">' in page
    assert "ü" in page
    assert json.loads((tmp_path / "report.json").read_text()) == report.as_json()
