import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from llama_platform.ports import free_port
from serve_apps.healthcheck import main


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_it_tells_whether_the_application_runs(status, code):
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self):
            assert self.path == "/health/live"
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Ready)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    assert main([str(server.server_port)]) == code
    thread.join()
    server.server_close()


def test_where_nothing_listens_it_says_so(capsys):
    assert main([str(free_port())]) == 1
    assert "refused" in capsys.readouterr().err
