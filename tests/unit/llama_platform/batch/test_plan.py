import json

import pytest

from llama_platform.batch.plan import BatchConfig, answers_key, open_output, prepare, records_key
from llama_platform.errors import ConfigError, ConflictError, InputError


@pytest.fixture
def config(tmp_path):
    lines = [json.dumps({"prompt": f"q{n}", "id": n}) for n in range(5)]
    (tmp_path / "questions.jsonl").write_text("\n".join([*lines, "{broken", "[1]"]))
    return BatchConfig(sources=(str(tmp_path / "questions.jsonl"),), output=str(tmp_path / "out"), shard_records=3)


def test_records_wait_in_shards_and_broken_ones_say_why(config):
    batch = prepare(config)
    assert batch.pending == (0, 1, 2)
    output = open_output(config.output)
    rows = [json.loads(line) for n in range(3) for line in output.read(records_key(n)).content.splitlines()]
    assert [row["record"] for row in rows] == list(range(7))
    assert rows[4] == {"record": 4, "id": 4, "value": {"prompt": "q4"}}
    assert "not valid JSON" in rows[5]["problem"]
    assert "a record is an object" in rows[6]["problem"]


def test_committed_shards_are_never_answered_again(config):
    prepare(config)
    answer = json.dumps({"record": 0, "text": "x", "usage": {"completion_tokens": 4}}) + "\n"
    open_output(config.output).write(answers_key(1), (answer * 3).encode())
    batch = prepare(config)
    assert batch.pending == (0, 2)
    assert (batch.progress.kept_shards, batch.progress.rows, batch.progress.tokens) == (1, 3, 12)


def test_an_output_of_other_settings_is_refused(config):
    prepare(config)
    with pytest.raises(ConflictError, match="other records or settings"):
        prepare(config.model_copy(update={"shard_records": 2}))


def test_sources_without_records_are_an_error(config, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="empty"):
        prepare(config.model_copy(update={"sources": (str(tmp_path / "empty.jsonl"),)}))


def test_other_files_of_a_folder_are_left_out_and_named(config, tmp_path, caplog):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/q.jsonl").write_text(json.dumps({"prompt": "half \ud83d"}))
    (tmp_path / "in/README.md").write_text("x")
    batch = prepare(config.model_copy(update={"sources": (str(tmp_path / "in"),)}))
    assert batch.pending == (0,)
    assert "a file is left out" in caplog.text


def test_sources_are_opened_once_and_a_file_left_out_is_told_once(tmp_path, config, caplog, monkeypatch):
    from llama_platform.batch import plan

    opened, original = [], plan.open_sources
    monkeypatch.setattr(plan, "open_sources", lambda sources: opened.append(sources) or original(sources))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.jsonl").write_text('{"prompt": "one"}\n')
    (folder / "notes.pdf").write_bytes(b"%PDF")
    prepare(config.model_copy(update={"sources": (str(folder),), "output": str(tmp_path / "elsewhere")}))
    assert len(opened) == 1
    assert [record.message for record in caplog.records].count("a file is left out") == 1


def test_a_relative_output_in_rays_copy_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "runtime_resources/working_dir_files/pkg"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match="would lie in Ray's temporary copy"):
        open_output("answers")
    assert open_output(str(tmp_path / "answers")).root.endswith("/answers")
