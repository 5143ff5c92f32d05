import pytest

from llama_platform.errors import ConfigError
from llama_platform.storage.open_store import open_store
from llama_platform.training.run.records import list_run_ids, read_settings, read_status, read_steps


def test_what_is_not_there_yet_is_empty(tmp_path):
    store = open_store(tmp_path.as_uri())
    assert (list_run_ids(store), read_status(store, "a"), read_steps(store, "a"), read_settings(store, "a")) == (
        [],
        {},
        [],
        {},
    )


def test_runs_are_listed_the_newest_first(tmp_path):
    store = open_store(tmp_path.as_uri())
    for run in ("20260101-b", "20260203-a"):
        store.write(f"runs/{run}/status.json", b'{"status": "running"}')
    assert list_run_ids(store) == ["20260203-a", "20260101-b"]
    assert read_status(store, "20260101-b") == {"status": "running"}
    store.write("runs/20260101-b/config.yaml", b"[")
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML"):
        read_settings(store, "20260101-b")
