import shlex
from types import SimpleNamespace

import pytest

from llama_platform.artifacts.location import StoreConfig
from llama_platform.errors import NotFoundError, UnavailableError
from rag.indexing.changes import store_change
from serve_apps.config import AppConfig
from serve_apps.ingress import index_jobs


class FakeClient:
    """Takes jobs, or fails as the dashboard does."""

    error: Exception | None = None
    jobs: dict[str, dict] = {}  # noqa: RUF012

    def __init__(self, address):
        self.address = address

    def submit_job(self, *, entrypoint, submission_id, runtime_env):
        if self.error:
            raise self.error
        self.jobs[submission_id] = {"entrypoint": entrypoint, "runtime_env": runtime_env}

    def get_job_info(self, job_id):
        if job_id not in self.jobs:
            raise RuntimeError("Request failed with status code 404: Job not found")
        return SimpleNamespace(status="RUNNING")

    def get_job_logs(self, job_id):
        return "\n".join(f"line {n}" for n in range(50))


@pytest.fixture
def jobs(monkeypatch):
    own = {"working_dir": "gcs://code.zip", "env_vars": {"A": "1"}, "pip": ["x"]}
    context = SimpleNamespace(gcs_address="127.0.0.1:1", runtime_env=own)
    monkeypatch.setattr(index_jobs.ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(index_jobs, "JobSubmissionClient", FakeClient)
    monkeypatch.setattr(FakeClient, "jobs", {})
    return index_jobs.RayIndexJobs(AppConfig(store=StoreConfig(uri="s3://bucket/x")))


def test_a_change_is_a_job_of_the_applications_own_code_and_store(jobs):
    job_id = jobs.submit("2024", "c-1")
    assert job_id.startswith("index-2024-")
    submitted = FakeClient.jobs[job_id]
    words = shlex.split(submitted["entrypoint"])
    assert words[1:5] == ["-m", "jobs.build_index", "--change", "c-1"]
    assert 'name="2024"' in words  # a text, not a number
    assert 'store.uri="s3://bucket/x"' in words
    assert submitted["runtime_env"] == {"working_dir": "gcs://code.zip", "env_vars": {"A": "1"}}


def test_the_end_of_a_jobs_log_is_told(jobs):
    state = jobs.status(jobs.submit("docs", "c-1"))
    assert (state.status, len(state.log), state.log[-1]) == ("RUNNING", index_jobs.LOG_LINES, "line 49")


def test_an_unknown_job_and_a_cluster_that_is_away_are_told_apart(jobs, monkeypatch):
    with pytest.raises(NotFoundError):
        jobs.status("index-none")
    monkeypatch.setattr(FakeClient, "error", ConnectionError("refused"))
    with pytest.raises(UnavailableError, match="try again"):
        jobs.submit("docs", "c-1")


def test_a_job_that_waits_for_room_is_pending_and_its_lines_are_its_own(jobs, monkeypatch):
    log = "\n".join([
        "2026-11-26 19:00:00,123\tINFO worker.py:1 -- Connecting", "\x1b[36mread 2 documents\x1b[0m",
        "Traceback (most recent call last):", '  File "resource_tracker.py", line 3', "    cache.remove(name)",
        "KeyError: '/loky-1'", "[2026-11-26 19:00:00,1 E 1 1] core_worker.cc:1: x",
        "queued: waiting for 1 CPUs, 0 are free",
    ])  # fmt: skip
    monkeypatch.setattr(FakeClient, "get_job_logs", lambda self, job_id: log)
    state = jobs.status(jobs.submit("docs", "c-1"))
    assert (state.status, state.log) == ("PENDING", ["read 2 documents", "queued: waiting for 1 CPUs, 0 are free"])


def test_changes_that_wait_in_the_store_are_submitted_once(jobs, repository, monkeypatch):
    done, waiting = (store_change(repository, "docs", [(f"{name}.md", b"Text.")]) for name in ("a", "b"))
    jobs.submit("docs", done)
    known = [SimpleNamespace(submission_id=name) for name in FakeClient.jobs]
    monkeypatch.setattr(FakeClient, "list_jobs", lambda self: known, raising=False)
    assert jobs.resume(repository) == [f"index-docs-{waiting[:12]}"]
