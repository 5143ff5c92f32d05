import pytest

from llama_platform.errors import ConfigError
from llama_platform.storage.open_store import open_store, root_from_environment


@pytest.mark.parametrize("uri", ["ftp://x/y", "s3://", "s3:///key", "file://host/x", ""])
def test_unusable_uris_are_refused(uri):
    with pytest.raises(ConfigError):
        open_store(uri)


def test_root_from_the_environment():
    assert root_from_environment({}) is None
    assert root_from_environment({"MODEL_BUCKET": "b"}) == "s3://b"
    assert root_from_environment({"MODEL_BUCKET": "b", "MODEL_S3_PREFIX": "/p/"}) == "s3://b/p"
