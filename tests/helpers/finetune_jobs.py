"""Fine-tuning jobs as processes that can be killed, and what their runs leave in the store."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray_nodes import kill_group, wait_for

ROOT = Path(__file__).parents[2]
CONFIG = ("--config", "jobs/configs/tiny_lora_cpu.yaml")
STEPS, INTERVAL = 40, 8


class Job:
    """A running `jobs.finetune`, and the progress lines that it has printed."""

    def __init__(self, environment: dict[str, str], arguments: list[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jobs.finetune", *CONFIG, *arguments],
            cwd=ROOT, env=environment, start_new_session=True, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def steps(self) -> list[int]:
        return [int(line.split()[1].split("/")[0]) for line in self.lines if line.startswith("step ")]

    def reaches(self, step: int, seconds: float = 120) -> None:
        wait_for(lambda: self.process.poll() is not None or max(self.steps(), default=0) >= step, seconds)
        assert self.process.poll() is None, self.output()

    def ends(self, seconds: float = 180) -> int:
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def output(self) -> str:
        return "".join(self.lines)[-4000:]

    def _read(self) -> None:
        assert self.process.stdout
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line)


class Runs:
    """Starts runs of one dataset in one store."""

    def __init__(self, environment: dict[str, str], store: str, cache: Path) -> None:
        self.environment, self.store, self.cache = environment, store, cache
        self._running: list[Job] = []

    def start(self, run_id: str, **settings: object) -> Job:
        values = {
            "store.uri": self.store,
            "store.cache": self.cache,
            "adapter.name": run_id,
            "training.run_id": run_id,
            "training.epochs": 1000,
            "training.max_steps": STEPS,
            "training.checkpoint_every": INTERVAL,
            "lora.dropout": 0.1,
            **settings,
        }
        arguments = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        job = Job(self.environment, arguments)
        self._running.append(job)
        return job

    def repository(self):
        from llama_platform.artifacts.location import StoreConfig, repository_from

        return repository_from(StoreConfig(uri=self.store, cache=self.cache), self.environment)

    def curve(self, run_id: str) -> list[float]:
        """Return the losses in `metrics.jsonl`; every step stands there once, in order."""
        text = self.repository().store.read(f"runs/{run_id}/metrics.jsonl").content.decode()
        records = [json.loads(line) for line in text.splitlines()]
        assert [record["step"] for record in records] == list(range(1, len(records) + 1))
        return [record["loss"] for record in records]

    def status(self, run_id: str) -> dict:
        return json.loads(self.repository().store.read(f"runs/{run_id}/status.json").content)

    def close(self) -> None:
        for job in self._running:
            if job.process.poll() is None:
                kill_group(job.process)


@contextmanager
def runs_on(environment: dict[str, str], store: str, cache: Path) -> Iterator[Runs]:
    runs = Runs(environment, store, cache)
    try:
        yield runs
    finally:
        runs.close()


def prepare_chats(environment: dict[str, str], store: str, cache: Path) -> None:
    arguments = [*CONFIG, "--set", f"store.uri={store}", "--set", f"store.cache={cache}", "--set", "data.max_chats=120"]
    arguments += ["--set", f"data.report_folder={cache}/report"]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.prepare_data", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
