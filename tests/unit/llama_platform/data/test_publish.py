import json
from pathlib import Path

import pytest

from datasets_of_sources import publish_sources
from llama_platform.data.dataset import find_dataset
from llama_platform.errors import InputError, NotFoundError


def test_a_dataset_knows_its_sources_and_the_same_chats_are_the_same_version(repository, data, tiny_config):
    version, report = publish_sources(repository, data, tiny_config)
    again, _ = publish_sources(repository, data, tiny_config)
    assert again.version == version.version == 1
    facts = repository.manifest(version).metadata
    assert facts["sources"] == [{"sha256": s.sha256, "file": s.file} for s in report.sources]
    assert facts["prompt_fingerprint"] == report.prompt.fingerprint
    assert {"train.parquet", "eval.parquet", "report.json", "report.html", "findings.jsonl"} == set(
        repository.manifest(version).files
    )


def test_refused_chats_leave_a_report_and_no_dataset(repository, data, tiny_config, tmp_path):
    with Path(data.sources[0]).open("a") as file:
        file.write("\n{oops\n")
    with pytest.raises(InputError, match=r"chats\.jsonl:21"):
        publish_sources(repository, data, tiny_config)
    report = json.loads((tmp_path / "reports/report.json").read_text())
    assert report["findings"]["malformed"]["count"] == 1
    assert repository.versions("dataset", "chats") == []
    with pytest.raises(NotFoundError, match="prepare_data first"):
        find_dataset(repository, "chats", None)
