import pytest

from llama_platform.cli.stores import open_store
from llama_platform.errors import ConfigError


def test_the_option_wins_over_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("MODEL_BUCKET", "bucket")
    monkeypatch.setenv("MODEL_S3_PREFIX", "prefix")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert open_store(None).store.root == "s3://bucket/prefix"
    assert open_store(str(tmp_path)).store.root == tmp_path.as_uri()
    with pytest.raises(ConfigError, match="write s3://"):
        open_store("s3:/bucket")
