"""Records of runs in the store, as values: for whoever shows them, without what training needs."""

import json
from typing import Any

from llama_platform.config import parse_yaml
from llama_platform.errors import NotFoundError
from llama_platform.storage.base import ObjectStore

RUNS = "runs"


def list_run_ids(store: ObjectStore) -> list[str]:
    """Return the ids of runs, the last in the alphabet first; ids that were made here begin with their time."""
    return sorted(store.list_folders(f"{RUNS}/"), reverse=True)


def read_status(store: ObjectStore, run_id: str) -> dict[str, Any]:
    """Return the content of `status.json`, nothing before the run's first start."""
    return read_json(store, run_id, "status.json")


def read_json(store: ObjectStore, run_id: str, file: str) -> dict[str, Any]:
    """Return the content of a JSON file of a run's folder, nothing where it is not there."""
    try:
        values: dict[str, Any] = json.loads(store.read(f"{RUNS}/{run_id}/{file}").content)
    except NotFoundError:
        return {}
    return values


def read_steps(store: ObjectStore, run_id: str) -> list[dict[str, Any]]:
    """Return the measures of each step, by the names of StepMetrics; none before the run's first."""
    try:
        text = store.read(f"{RUNS}/{run_id}/metrics.jsonl").content.decode()
    except NotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines()]


def read_settings(store: ObjectStore, run_id: str) -> dict[str, Any]:
    """Return what a run was configured with, nothing before its first start."""
    try:
        content = store.read(f"{RUNS}/{run_id}/config.yaml").content
    except NotFoundError:
        return {}
    return parse_yaml(content.decode(), f"{store.root}/{RUNS}/{run_id}/config.yaml")
