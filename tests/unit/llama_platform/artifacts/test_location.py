from pathlib import Path

import pytest
from pydantic import ValidationError

from llama_platform.artifacts.location import StoreConfig, absolute, repository_from
from llama_platform.errors import ConfigError


def test_the_configured_store_wins_over_the_environment(tmp_path):
    environ = {"MODEL_BUCKET": "bucket", "MODEL_S3_PREFIX": "team"}
    assert absolute(StoreConfig(), environ).uri == "s3://bucket/team"
    assert absolute(StoreConfig(uri="s3://other/x"), environ).uri == "s3://other/x"


def test_a_folder_and_a_home_mean_the_same_to_every_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/somebody")
    found = absolute(StoreConfig(uri="store", cache=Path("~/cache")), {})
    assert found.uri == (tmp_path / "store").as_uri()
    assert found.cache == Path("/home/somebody/cache")
    assert absolute(StoreConfig(), {}).uri == (tmp_path / ".demo/store").as_uri()


def test_a_default_in_rays_temporary_copy_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "runtime_resources/working_dir_files/pkg"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=r"set store\.uri, or MODEL_BUCKET"):
        absolute(StoreConfig(), {})
    assert absolute(StoreConfig(uri="s3://bucket/x"), {}).uri == "s3://bucket/x"


def test_the_cache_is_bounded(tmp_path):
    with pytest.raises(ValidationError, match="cache_gib"):
        StoreConfig(cache_gib=0)
    repository = repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})
    assert repository.store.root == (tmp_path / "store").as_uri()


def test_tokenized_datasets_lie_beside_the_cache(tmp_path):
    assert StoreConfig(cache=tmp_path / "artifacts").tokenized() == tmp_path / "tokenized"
