import json

import pytest

from llama_platform.artifacts.repository import open_repository
from llama_platform.data.config import DataConfig


@pytest.fixture
def repository(tmp_path):
    return open_repository((tmp_path / "store").as_uri(), tmp_path / "cache")


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "chats.jsonl"
    records = [{"input": f"question {n} of {n * n}", "output": f"answer {n * 3}"} for n in range(20)]
    path.write_text("\n".join(map(json.dumps, records)))
    return DataConfig(sources=(str(path),), report_folder=tmp_path / "reports")
