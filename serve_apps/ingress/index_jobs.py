"""IndexJobs: changes of indexes, as jobs of the cluster that this application runs on."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.job_submission import JobSubmissionClient

from llama_platform.artifacts.repository import ArtifactRepository
from llama_platform.errors import NotFoundError, UnavailableError
from rag.indexing.changes import QUEUED, waiting_changes
from serve_apps.api.state import JobState
from serve_apps.config import AppConfig

LOG_LINES = 20
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FOREIGN = re.compile(
    r"^Running entrypoint for job |^Loading weights|^\(\w+\(.*pid=|^\((?:\w+ )?pid=|^\(raylet|^\[\d{4}-\d\d-\d\d |"
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+\s(INFO|WARNING)\s|resource_tracker|^Traceback \(most recent|^  File \"|"
    r"^    |^KeyError: '/|^\{\"time\"|Resources might leak"
)
"""Lines of Ray's own logging, of tracebacks, of structured logging."""


class RayIndexJobs:
    """Submits `jobs.build_index`; see IndexJobs."""

    def __init__(self, config: AppConfig) -> None:
        """Change indexes of the application's store, with its embedding model."""
        self._config = config

    def submit(self, index: str, change_id: str) -> str:
        """Queue a change that waits in the store, and return the job's id.

        Raises:
            UnavailableError: the cluster takes no jobs right now.
        """
        settings = {
            "store.uri": self._config.store.uri,
            "store.cache": str(self._config.store.cache),
            "name": index,
            "embedding.model": self._config.embedding.model,
        }
        command = [sys.executable, "-m", "jobs.build_index", "--change", change_id]
        for key, value in settings.items():
            # As JSON, which is YAML: a name such as `2024` stays a text.
            command += ["--set", f"{key}={json.dumps(value, ensure_ascii=False)}"]
        # Of the change: whoever submits it again, after a restart of Ray, submits the same job.
        job_id = f"index-{index}-{change_id[:12]}"
        with self._asking() as client:
            client.submit_job(entrypoint=shlex.join(command), submission_id=job_id, runtime_env=_runtime_env())
        return job_id

    def resume(self, repository: ArtifactRepository) -> list[str]:
        """Submit the changes that wait in the store and that no job of this cluster does; return their jobs' ids.

        Raises:
            StorageError: the store cannot be read.
            UnavailableError: the cluster takes no jobs right now.
        """
        with self._asking() as client:
            known = {job.submission_id for job in client.list_jobs()}
        waiting = [(index, change) for index, change in waiting_changes(repository)]
        return [self.submit(index, change) for index, change in waiting if f"index-{index}-{change[:12]}" not in known]

    def status(self, job_id: str) -> JobState:
        """Tell how far a job is.

        Raises:
            NotFoundError: there is no such job.
            UnavailableError: the cluster does not tell right now.
        """
        with self._asking() as client:
            found = client.get_job_info(job_id)
            log = client.get_job_logs(job_id)
        lines = own_lines(log)
        waits = str(found.status) == "RUNNING" and bool(lines) and lines[-1].startswith(QUEUED)
        return JobState(job_id, "PENDING" if waits else str(found.status), lines[-LOG_LINES:])

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            # The cluster's own address; from that the client finds the dashboard, which takes the jobs.
            yield JobSubmissionClient(ray.get_runtime_context().gcs_address)
        except (RuntimeError, OSError) as error:  # requests' errors are OSErrors; statuses come as texts
            if "404" in str(error):
                raise NotFoundError("there is no such job") from error
            raise UnavailableError("the cluster takes no jobs right now; try again shortly") from error


def own_lines(log: str) -> list[str]:
    """Return the lines of a job's log that are the job's own: without colours, and without those of Ray and Python."""
    plain = (_COLOUR.sub("", line).rstrip() for line in log.splitlines())
    return [line for line in plain if line.strip() and not _FOREIGN.search(line)]


def _runtime_env() -> dict[str, Any]:
    """Return what lays the same code over the job as over this replica."""
    own = ray.get_runtime_context().runtime_env
    return {key: own[key] for key in ("working_dir", "py_modules", "env_vars") if own.get(key)}
