"""Fixtures of the artifact tests."""

import pytest

from llama_platform.artifacts.location import StoreConfig, repository_from


@pytest.fixture(params=["file", "s3"])
def repository(request, tmp_path):
    uri = (tmp_path / "store").as_uri() if request.param == "file" else request.getfixturevalue("s3_uri")
    return repository_from(StoreConfig(uri=uri, cache=tmp_path / "cache"), {})


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "content"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.json").write_text("{}")
    (folder / "sub/b.txt").write_text("b" * 1000)
    return folder
