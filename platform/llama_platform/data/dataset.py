"""Datasets as artifacts: prepared chats, committed with the digests of their sources."""

import tempfile
from pathlib import Path
from typing import Any

from llama_platform.artifacts.repository import ArtifactRepository, ArtifactVersion
from llama_platform.data.prepare import DataConfig, prepare, write_dataset
from llama_platform.models.base_model import BaseConfig, load_template


def publish_dataset(
    repository: ArtifactRepository, data: DataConfig, base: BaseConfig
) -> tuple[ArtifactVersion, dict[str, Any]]:
    """Prepare the configured chats, commit them as the next version of `data.name`; return it and the report.

    Raises:
        InputError: the chats cannot be used; nothing is written then.
        StorageError: the store refused.
    """
    prepared = prepare(data, load_template(base))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_dataset(prepared, folder)
        sources = [{"sha256": source["sha256"], "file": source["file"]} for source in prepared.report["sources"]]
        lineage = {
            "sources": sources,
            "base": base.model,
            "prompt_fingerprint": prepared.report["prompt"]["fingerprint"],
            "chats": prepared.report["chats"],
            "tokens": prepared.report["tokens"],
            "settings": data.model_dump(mode="json", exclude={"sources"}),
        }
        return repository.publish("dataset", data.name, folder, lineage), prepared.report
