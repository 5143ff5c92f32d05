import time

import pytest

from llama_platform.cli.ray_cluster import connect, require_token
from llama_platform.errors import UnavailableError
from llama_platform.ports import free_port


@pytest.fixture(autouse=True)
def no_token(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x")
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)


@pytest.mark.parametrize("address", ["not an address", "port"])
def test_a_cluster_that_is_not_there_is_named_at_once(monkeypatch, address):
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}" if address == "port" else address)
    begun = time.monotonic()
    with pytest.raises(UnavailableError, match="no Ray cluster at RAY_ADDRESS"), connect():
        pass
    assert time.monotonic() - begun < 60


def test_where_the_token_is_is_told(monkeypatch, tmp_path):
    assert require_token(tmp_path / "new") == "the environment variable RAY_AUTH_TOKEN"
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    assert require_token(tmp_path / "new") == str(tmp_path / "new")
    assert len((tmp_path / "new").read_text()) == 64
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("theirs")
    assert require_token(tmp_path / "new") == str(tmp_path / ".ray/auth_token")
