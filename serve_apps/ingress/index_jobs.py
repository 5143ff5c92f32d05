"""IndexJobs: changes of indexes, as jobs of the cluster that this application runs on."""

import json
import shlex
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.job_submission import JobSubmissionClient

from llama_platform.errors import NotFoundError, UnavailableError
from serve_apps.api.state import JobState
from serve_apps.config import AppConfig

LOG_LINES = 20


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
        job_id = f"index-{index}-{uuid.uuid4().hex[:12]}"
        with self._asking() as client:
            client.submit_job(entrypoint=shlex.join(command), submission_id=job_id, runtime_env=_runtime_env())
        return job_id

    def status(self, job_id: str) -> JobState:
        """Tell how far a job is.

        Raises:
            NotFoundError: there is no such job.
            UnavailableError: the cluster does not tell right now.
        """
        with self._asking() as client:
            found = client.get_job_info(job_id)
            log = client.get_job_logs(job_id)
        return JobState(job_id, str(found.status), log.splitlines()[-LOG_LINES:])

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        try:
            # The cluster's own address; from that the client finds the dashboard, which takes the jobs.
            yield JobSubmissionClient(ray.get_runtime_context().gcs_address)
        except (RuntimeError, OSError) as error:  # requests' errors are OSErrors; statuses come as texts
            if "404" in str(error):
                raise NotFoundError("there is no such job") from error
            raise UnavailableError("the cluster takes no jobs right now; try again shortly") from error


def _runtime_env() -> dict[str, Any]:
    """Return what lays the same code over the job as over this replica."""
    own = ray.get_runtime_context().runtime_env
    return {key: own[key] for key in ("working_dir", "py_modules", "env_vars") if own.get(key)}
