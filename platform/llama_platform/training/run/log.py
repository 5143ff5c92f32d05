"""Run log: what a run's folder in the store shows while it goes on, and after.

`metrics.jsonl`, `loss.png`, TensorBoard's event files, `status.json` and, at the end, `report.html`. The driver writes
it all. A run that is continued keeps its records; those of steps that are repeated replace the first ones.
"""

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from llama_platform.errors import StorageError
from llama_platform.storage.base import ObjectStore
from llama_platform.storage.regular_files import file_sha256
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run.metrics import StepMetrics
from llama_platform.training.run.records import read_json, read_status, read_steps
from llama_platform.training.run.report import loss_chart, render_report

log = logging.getLogger(__name__)
RunStatus = Literal["running", "finished", "stopped", "failed"]
COMPARISON = "comparison.json"
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
        self._written = self._drawn = self._started = time.monotonic()
        self._seconds_before = float(read_status(store, run_id).get("seconds", 0))
        self._dirty = False

    @property
    def report_uri(self) -> str:
        """Return where the report of the run lies once it is closed."""
        return f"{self._store.root}/{self._folder}/report.html"

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
        seconds = round(self._seconds_before + time.monotonic() - self._started)
        known = {"status": status, "step": last, "seconds": seconds, "updated": now}
        content = json.dumps({**known, **facts}, indent=1)
        self._store.write(f"{self._folder}/status.json", content.encode())

    def close(self, status: RunStatus, **facts: Any) -> None:
        """Write the last state of everything, and the report."""
        self._flush(now=True)
        self.set_status(status, **facts)
        write_report(self._store, self._run_id, self._config.settings())

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


def write_report(store: ObjectStore, run_id: str, settings: Mapping[str, Any]) -> None:
    """Write `report.html` of a run from what its folder holds: status, metrics, and its comparison if there is one."""
    page = render_report(
        run_id, read_status(store, run_id), settings, read_metrics(store, run_id), read_json(store, run_id, COMPARISON)
    )
    store.write(f"runs/{run_id}/report.html", page.encode())


def add_comparison(store: ObjectStore, run_id: str, comparison: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Put the comparison of a run's adapter with another one, or its base, into its report.

    Args:
        store: holds the run's folder.
        run_id: the run that made the adapter.
        comparison: an `evaluation.compare.Comparison` as JSON values.
        settings: what the run was configured with, JSON values.
    """
    store.write(f"runs/{run_id}/{COMPARISON}", json.dumps(comparison, ensure_ascii=False, indent=1).encode())
    write_report(store, run_id, settings)


def read_metrics(store: ObjectStore, run_id: str) -> list[StepMetrics]:
    """Return the records of a run, none before its first."""
    return [StepMetrics(**step) for step in read_steps(store, run_id)]


def _start_wandb(config: FinetuneConfig, run_id: str) -> Any:
    if config.training.wandb_project is None:
        return None
    import wandb

    try:
        return wandb.init(project=config.training.wandb_project, id=run_id, resume="allow", config=config.settings())
    except (wandb.Error, OSError) as error:  # without a key or network: the run does not need this log
        log.warning("the run is not logged to Weights & Biases: %s", error)
        return None
