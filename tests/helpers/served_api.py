"""An application of a test behind a port of its own, in this process."""

import threading
import time
from contextlib import contextmanager

import uvicorn

from llama_platform.ports import free_port


@contextmanager
def served(api):
    """Yield the URL of an ASGI application while it is served."""
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(api, port=port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
