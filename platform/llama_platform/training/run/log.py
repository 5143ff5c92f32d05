"""Run log: what a run's folder in the store shows while it goes on, and after.

`metrics.jsonl`, `loss.png`, TensorBoard's event files, `status.json` and, at the end, `report.html`. The driver writes
it all. A run that is continued keeps its records; those of steps that are repeated replace the first ones.
"""

import json
import logging
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from llama_platform.artifacts.manifest import file_sha256
from llama_platform.errors import NotFoundError, StorageError
from llama_platform.storage.base import ObjectStore
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run.metrics import StepMetrics
from llama_platform.training.run.report import loss_chart, render_report

log = logging.getLogger(__name__)
RunStatus = Literal["running", "finished", "stopped", "failed"]
METRICS_EVERY_S, PICTURES_EVERY_S = 2.0, 30.0  # a picture takes half a second of a core
PLOTTED = ("loss", "eval_loss", "learning_rate", "grad_norm", "tokens_per_s")


class RunLog:
    """The folder of one run; a context manager, since it keeps files open."""

    def __init__(self, store: ObjectStore, run_id: str, config: FinetuneConfig) -> None:
        """Continue the log of `run_id`, or begin it.

        Raises:
            StorageError: the store refuses.
        """
        self._store, self._folder, self._run_id, self._config = store, f"runs/{run_id}", run_id, config
        self._records = {record.step: record for record in read_metrics(store, run_id)}
        self._written = self._drawn = time.monotonic()
        self._dirty = False

    def __enter__(self) -> "RunLog":
        from tensorboardX import SummaryWriter

        self._scratch = tempfile.TemporaryDirectory(prefix="tensorboard-")
        self._board = SummaryWriter(self._scratch.name)
        self._wandb = _start_wandb(self._config, self._run_id)
        self.set_status("running")
        return self

    def __exit__(self, *_: object) -> None:
        self._board.close()
        self._scratch.cleanup()
        if self._wandb is not None:
            self._wandb.finish()

    def add(self, records: Iterable[StepMetrics]) -> list[StepMetrics]:
        """Add records and return those that are new; one of an earlier step than the last begins that part anew."""
        news = [record for record in records if self._records.get(record.step) != record]
        for record in news:
            if record.step in self._records or (self._records and record.step < max(self._records)):
                self._records = {step: kept for step, kept in self._records.items() if step < record.step}
            self._records[record.step] = record
            self._dirty = True
            values = {key: value for key in PLOTTED if (value := getattr(record, key)) is not None}
            for key, value in values.items():
                self._board.add_scalar(f"training/{key}", value, record.step)
            if self._wandb is not None:
                self._wandb.log(values, step=record.step)
        self._flush()
        return news

    def records(self) -> list[StepMetrics]:
        """Return what is known of every step so far."""
        return list(self._records.values())

    def set_status(self, status: RunStatus, **facts: Any) -> None:
        """Write `status.json`: whether the run is running, finished, stopped (to be continued) or failed."""
        last = max(self._records, default=0)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        content = json.dumps({"status": status, "step": last, "updated": now, **facts}, indent=1)
        self._store.write(f"{self._folder}/status.json", content.encode())

    def close(self, status: RunStatus, **facts: Any) -> None:
        """Write the last state of everything, and the report."""
        self._flush(now=True)
        page = render_report(self._run_id, status, self._config.settings(), self.records(), facts)
        self._store.write(f"{self._folder}/report.html", page.encode())
        self.set_status(status, **facts)

    def _flush(self, *, now: bool = False) -> None:
        elapsed = time.monotonic()
        if not now and not (self._dirty and elapsed - self._written > METRICS_EVERY_S):
            return
        lines = "".join(json.dumps(asdict(record)) + "\n" for record in self._records.values())
        try:
            self._store.write(f"{self._folder}/metrics.jsonl", lines.encode())
            self._written, self._dirty = elapsed, False
            if now or elapsed - self._drawn > PICTURES_EVERY_S:
                self._store.write(f"{self._folder}/loss.png", loss_chart(self.records()))
                self._upload_events()
                self._drawn = elapsed
        except StorageError:
            if now:
                raise
            # The next try is seconds away, and the run itself does not need the log.
            log.warning("the run's log could not be written", exc_info=True)

    def _upload_events(self) -> None:
        self._board.flush()
        for path in Path(self._scratch.name).iterdir():
            self._store.upload(path, f"{self._folder}/tensorboard/{path.name}", file_sha256(path))


def read_metrics(store: ObjectStore, run_id: str) -> list[StepMetrics]:
    """Return the records of a run, none before its first."""
    try:
        text = store.read(f"runs/{run_id}/metrics.jsonl").content.decode()
    except NotFoundError:
        return []
    return [StepMetrics(**json.loads(line)) for line in text.splitlines()]


def _start_wandb(config: FinetuneConfig, run_id: str) -> Any:
    if config.training.wandb_project is None:
        return None
    import wandb

    return wandb.init(project=config.training.wandb_project, id=run_id, resume="allow", config=config.settings())
