"""nginx in front of the application, by the shipped example: TLS, streams, and clients that are slow.

Times of the example are shortened, and its socket buffers made small, so that what it ends is seen within seconds.
"""

import json
import shutil
import socket
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from llama_platform.ports import free_port, is_listening
from ray_nodes import wait_for

ROOT = Path(__file__).parents[2]
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not Path(NGINX).exists(), reason="nginx is not installed (apt install nginx-light)"),
]
CHANGES = {
    "client_header_timeout 10s": "client_header_timeout 2s",
    "client_body_timeout 15s": "client_body_timeout 2s",
    "send_timeout 30s": "send_timeout 2s",
}
LONG = {"model": "base", "prompt": "Who are you?", "max_tokens": 500, "n": 8, "ignore_eos": True, "stream": True}


@pytest.fixture(scope="module")
def edge(app, tmp_path_factory):
    """nginx before the application: (port, an httpx client that knows its certificate)."""
    folder, port = tmp_path_factory.mktemp("nginx"), free_port()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", folder / "llama.key",
         "-out", folder / "llama.crt"], check=True, capture_output=True,
    )  # fmt: skip
    text = (ROOT / "serve_apps/configs/nginx.conf").read_text()
    for old, new in {
        **CHANGES,
        "/run/nginx.pid": str(folder / "pid"),
        "127.0.0.1:8000": app.url.removeprefix("http://"),
        "listen 8443 ssl": f"listen 127.0.0.1:{port} ssl sndbuf=4k",
        "/etc/nginx/llama": str(folder / "llama"),
    }.items():
        assert text.count(old) >= 1, old
        text = text.replace(old, new)
    (folder / "nginx.conf").write_text(text)
    command = [NGINX, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen([*command, "-g", "daemon off;"])
    wait_for(lambda: is_listening(f"127.0.0.1:{port}", 1), 20)
    trust = ssl.create_default_context(cafile=str(folder / "llama.crt"))
    with httpx.Client(base_url=f"https://localhost:{port}", verify=trust, timeout=60) as client:
        yield port, client
    process.terminate()
    process.wait(20)


def connected(port: int, receives: int | None = None) -> ssl.SSLSocket:
    raw = socket.socket()
    if receives is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
    raw.settimeout(30)
    raw.connect(("127.0.0.1", port))
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(raw)


def running(app) -> int:
    return sum(
        replica["running"] + replica["waiting"] for replica in httpx.get(f"{app.url}/model/info").json()["replicas"]
    )


def test_answers_come_over_tls_and_streams_piece_by_piece(edge):
    _, client = edge
    whole = client.post("/predict", json={"prompt": "Who are you?", "max_new_tokens": 8, "temperature": 0})
    assert whole.status_code == 200
    assert whole.headers["strict-transport-security"].startswith("max-age")
    times = []
    with client.stream("POST", "/v1/completions", json={**LONG, "n": 1, "max_tokens": 300}) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                times.append(time.monotonic())
    assert len(times) > 3
    assert times[-1] > times[0]  # not all at once, at the end


def test_clients_headers_do_not_switch_deadlines_off(edge, app):
    _, client = edge
    headers = {"X-Request-Timeout-Seconds": "0.001", "X-Request-Disconnect-Disabled": "1"}
    body = {"prompt": "Who are you?", "max_new_tokens": 8}
    assert client.post("/predict", json=body, headers=headers).status_code == 200


def test_slow_headers_and_bodies_end_and_others_are_answered_meanwhile(edge):
    port, client = edge
    slow = [connected(port) for _ in range(100)]
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
    for number, one in enumerate(slow):
        one.sendall(head if number % 2 else head + b"Content-Type: application/json\r\nContent-Length: 90\r\n\r\n{")
    for _ in range(20):
        assert client.get("/health/live").status_code == 200
    ended = 0
    for one in slow:  # nginx ends each of them within its time, with 408 or without a word
        with suppress(ConnectionError, ssl.SSLError):
            answer = one.recv(4096)
            ended += answer == b"" or b" 408 " in answer
        one.close()
    assert ended == len(slow)


def test_who_does_not_read_is_left_and_its_answer_ends(edge, app):
    port, client = edge
    body = json.dumps(LONG).encode()
    sockets = []
    for _ in range(3):
        one = connected(port, receives=2048)
        one.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        sockets.append(one)
    wait_for(lambda: running(app) > 0, 20)
    assert client.get("/health/live").status_code == 200
    wait_for(lambda: running(app) == 0, 60)
    for one in sockets:
        one.close()
    assert client.post("/predict", json={"prompt": "Hi", "max_new_tokens": 4}).status_code == 200
