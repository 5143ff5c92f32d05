"""Publishing datasets: prepared chats, committed with the digests of their sources."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.data.config import DataConfig
from llama_platform.data.examine import Examiner
from llama_platform.data.prepare import prepare
from llama_platform.data.reading.sources import SourceFile
from llama_platform.data.report.values import DatasetReport
from llama_platform.models.base_model import BaseConfig, load_template

REPORTS = ("report.json", "report.html")


def publish_dataset(
    repository: ArtifactRepository,
    data: DataConfig,
    base: BaseConfig,
    files: Sequence[SourceFile],
    examiner: Examiner | None = None,
    origin: Mapping[str, Any] | None = None,
) -> tuple[ArtifactVersion, DatasetReport]:
    """Prepare the configured chats, commit them as the next version of `data.name`; return it and the report.

    The report is also copied to `report_folder(data)`, and even where the chats are refused.

    Args:
        repository: where the version is committed.
        data: policies and bounds.
        base: its tokenizer counts.
        files: what `open_sources` found of the configured sources.
        examiner: runs the examination; None for this process.
        origin: what else the version's metadata tells of where the chats come from.

    Raises:
        InputError: the chats cannot be used; nothing is committed then.
        StorageError: the store refused.
    """
    template = load_template(base)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with _copied_reports(folder, report_folder(data)):
            report = prepare(data, template, folder, files, examiner)
        lineage = {
            "sources": [{"sha256": source.sha256, "file": source.file} for source in report.sources],
            "base": base.model,
            "prompt_fingerprint": report.prompt.fingerprint,
            "chats": report.as_json()["chats"],
            "tokens": report.as_json()["tokens"],
            **({"preferences": True} if report.preferences else {}),
            **(origin or {}),
            "settings": data.model_dump(mode="json", exclude={"sources", "report_folder", "ray_above_mib"}),
        }
        return repository.publish("dataset", data.name, folder, lineage), report


def report_folder(data: DataConfig) -> Path:
    """Return where the report is copied to."""
    return data.report_folder or Path("reports") / data.name


@contextmanager
def _copied_reports(source: Path, target: Path) -> Iterator[None]:
    try:
        yield
    finally:
        for name in REPORTS:
            if (source / name).exists():
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source / name, target / name)
