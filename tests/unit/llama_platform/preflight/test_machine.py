import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray

from llama_platform.ports import free_port
from llama_platform.preflight.machine import check_cluster, check_machine


@pytest.fixture
def dashboard():
    """A dashboard's version route: what it asks for and what it says can be changed."""

    class Version(BaseHTTPRequestHandler):
        token, release = "secret", ray.__version__

        def do_GET(self):
            allowed = self.token is None or self.headers.get("Authorization") == f"Bearer {self.token}"
            self.send_response(200 if allowed else 401)
            self.end_headers()
            if allowed:
                self.wfile.write(json.dumps({"ray_version": self.release}).encode())

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Version)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Version, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def found(address, token="secret"):
    return [(finding.level, finding.check) for finding in check_cluster(address, {"RAY_AUTH_TOKEN": token})]


def test_versions_are_told():
    (finding,) = check_machine("x86_64")
    assert f"ray {ray.__version__}" in finding.text


def test_another_processor_is_an_error():
    assert [finding.level for finding in check_machine("aarch64")] == ["error", "ok"]


def test_a_cluster_of_the_same_release_with_a_token(dashboard):
    assert found(dashboard[1]) == [("ok", "cluster")]


def test_an_open_dashboard_is_an_error(dashboard):
    dashboard[0].token = None
    assert ("error", "dashboard") in found(dashboard[1])


def test_a_wrong_token_and_another_release(dashboard):
    assert found(dashboard[1], "wrong") == [("error", "token")]
    dashboard[0].release = "2.9.0"
    assert found(dashboard[1]) == [("error", "versions")]


def test_a_cluster_that_is_not_there():
    assert found(f"http://127.0.0.1:{free_port()}") == [("error", "cluster")]


def test_the_token_is_found_where_ray_finds_it(dashboard, tmp_path, monkeypatch):
    (tmp_path / "token").write_text("secret\n")
    told = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    assert [finding.level for finding in check_cluster(dashboard[1], told)] == ["ok"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert [finding.check for finding in check_cluster(dashboard[1], {})] == ["token"]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text("secret")
    assert [finding.level for finding in check_cluster(dashboard[1], {})] == ["ok"]
