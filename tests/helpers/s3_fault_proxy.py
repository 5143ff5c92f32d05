"""A loopback proxy in front of an S3 server that refuses chosen requests, as a broken or misconfigured store would."""

import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

NOT_PASSED_ON = {"connection", "content-length", "date", "server", "transfer-encoding"}


class FaultProxy:
    """Passes requests on, except those with `fragment` in their path and `method` as their verb: these get `status`."""

    def __init__(self, upstream: str) -> None:
        self._address = urlsplit(upstream).netloc
        self._rule: tuple[str, str, int] | None = None
        self.refused = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "FaultProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def refuse(self, method: str, fragment: str, status: int) -> None:
        self._rule = (method, fragment, status)

    def heal(self) -> None:
        self._rule = None

    def _refuses(self, method: str, path: str) -> int:
        if self._rule and self._rule[0] == method and self._rule[1] in path:
            self.refused += 1
            return self._rule[2]
        return 0

    def _handler(proxy):  # noqa: C901 - one small method for each part of HTTP
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def answer(self) -> None:
                body = self._body()
                if status := proxy._refuses(self.command, self.path):
                    content = b"<Error><Code>AccessDenied</Code><Message>refused by the test</Message></Error>"
                    return self._send(status, [("Content-Type", "application/xml")], content)
                upstream = HTTPConnection(proxy._address, timeout=30)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in NOT_PASSED_ON}
                upstream.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
                reply = upstream.getresponse()
                content = reply.read()
                passed = [(k, v) for k, v in reply.getheaders() if k.lower() not in NOT_PASSED_ON]
                length = reply.getheader("Content-Length") if self.command == "HEAD" else None
                return self._send(reply.status, passed, content, length)

            def _body(self) -> bytes:
                if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    continue
                return b"".join(parts)

            def _send(self, status: int, headers: list, content: bytes, length: str | None = None) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", length or str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

        return Handler
