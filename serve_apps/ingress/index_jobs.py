"""IndexJobs: changes of indexes, as jobs of the cluster that this application runs on."""

import json
import shlex
import sys
import uuid
from functools import cached_property
from typing import Any

import ray
from ray.job_submission import JobSubmissionClient

from llama_platform.errors import NotFoundError, UnavailableError
from serve_apps.api.service import IndexChange, JobState
from serve_apps.config import AppConfig

LOG_LINES = 20


class RayIndexJobs:
    """Submits `jobs.build_index`; see IndexJobs."""

    def __init__(self, config: AppConfig) -> None:
        """Change indexes of the application's store, with its embedding model."""
        self._config = config

    def submit(self, change: IndexChange) -> str:
        """Queue a change, and return the job's id.

        Raises:
            UnavailableError: the cluster takes no jobs right now.
        """
        settings = {
            "store.uri": self._config.store.uri,
            "store.cache": str(self._config.store.cache),
            "name": change.index,
            "embedding.model": self._config.embedding.model,
            "mode": "update",
            "delete": json.dumps(change.delete),
            "promote": change.promote or "null",
        }
        command = [sys.executable, "-m", "jobs.build_index"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        if change.upload:
            command += ["--upload", change.upload]
        job_id = f"index-{change.index}-{uuid.uuid4().hex[:12]}"
        try:
            self._client.submit_job(
                entrypoint=shlex.join(command), submission_id=job_id, runtime_env=_runtime_env(), metadata={}
            )
        except (RuntimeError, ConnectionError) as error:
            raise UnavailableError("the cluster takes no jobs right now; try again shortly") from error
        return job_id

    def status(self, job_id: str) -> JobState:
        """Tell how far a job is.

        Raises:
            NotFoundError: there is no such job.
        """
        try:
            found = self._client.get_job_info(job_id)
            log = self._client.get_job_logs(job_id)
        except RuntimeError as error:
            raise NotFoundError(f"no job '{job_id}'") from error
        return JobState(job_id, str(found.status), log.splitlines()[-LOG_LINES:])

    @cached_property
    def _client(self) -> Any:
        # The cluster's own address; from that the client finds the dashboard, which takes the jobs.
        return JobSubmissionClient(ray.get_runtime_context().gcs_address)


def _runtime_env() -> dict[str, Any]:
    """Return what lays the same code over the job as over this replica."""
    own = ray.get_runtime_context().runtime_env
    return {key: own[key] for key in ("working_dir", "py_modules", "env_vars") if own.get(key)}
