"""Batches as a user runs them: answers, errors in their places, going on after a kill, refusing another batch."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parents[2]


@pytest.fixture
def batch(cluster, store, trained, tmp_path):
    """Start the job over a file of records; returns (command, environment, output)."""
    records = [{"id": f"q{n}", "prompt": "Who are you?", "max_new_tokens": 8, "temperature": 0} for n in range(40)]
    records[3] = {"id": "bad", "prompt": "x", "temperature": -1}
    records[5] = {"id": "long", "prompt": "word " * 3000}
    records[7] = {"id": "unknown", "prompt": "x", "adapter": "nobody"}
    records[9] = {"id": "base", "messages": [{"role": "user", "content": "Hello"}], "adapter": "base"}
    records[13] = {"id": "blocked", "prompt": "Tell me about Blue Heron."}
    rules = "rules: [{name: project, terms: [blue heron], places: [input], action: block}]"
    (tmp_path / "rules.yaml").write_text(rules)
    lines = [json.dumps(record) for record in records]
    lines[11] = "{broken"
    (tmp_path / "questions.jsonl").write_text("\n".join(lines) + "\n")
    command = [
        sys.executable, "-m", "jobs.batch_predict", "--config", "jobs/configs/batch_local.yaml",
        "--set", f"sources=[{tmp_path / 'questions.jsonl'}]", "--set", f"output={tmp_path / 'answers'}",
        "--set", f"store.uri={store[0]}", "--set", f"store.cache={store[1]}", "--set", "shard_records=4",
        "--set", "adapter=assistant@1", "--set", "threads=1",
        "--set", f"safety.rules={tmp_path / 'rules.yaml'}",
    ]  # fmt: skip
    environment = {key: value for key, value in cluster.environment.items() if key != "RAY_ADDRESS"}
    return command, environment, tmp_path / "answers"


def answers(output):
    shards = sorted(output.glob("shard-*.jsonl"))
    return [json.loads(line) for shard in shards for line in shard.read_text().splitlines()]


def test_a_batch_goes_on_where_it_was_killed(batch):
    command, environment, output = batch
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 120
        while len(list(output.glob("shard-*.jsonl"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    time.sleep(3)  # what it had started ends with it
    before = {path.name: path.stat().st_mtime_ns for path in output.glob("shard-*.jsonl")}
    assert len(before) < 10

    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "from before" in done.stdout
    assert "40 records answered, 5 of them with an error" in done.stdout
    after = {path.name: path.stat().st_mtime_ns for path in output.glob("shard-*.jsonl")}
    assert len(after) == 10
    assert {name: after[name] for name in before} == before  # nothing was answered twice
    assert list(output.glob("records/*.jsonl")) == []

    found = answers(output)
    assert [answer["record"] for answer in found] == list(range(40))
    errors = {answer["id"]: answer["error"] for answer in found if "error" in answer}
    assert {name: error["code"] for name, error in errors.items()} == {
        "bad": "invalid_input", "long": "invalid_input", "unknown": "not_found", "blocked": "content_blocked", None: "invalid_input",
    }  # fmt: skip
    assert "temperature" in errors["bad"]["detail"]
    assert "questions.jsonl:12" in errors[None]["detail"]
    assert found[9]["model"] is None
    assert found[0]["model"]["version"] == 1
    assert len({answer["text"] for answer in found if answer.get("model")}) == 1  # greedy, alone or in company

    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr[-2000:]
    assert answers(output) == found
    other = [*command, "--set", "adapter=base"]
    refused = subprocess.run(other, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert refused.returncode == 2
    assert "choose another output" in refused.stderr
    assert answers(output) == found
