"""Connecting a job to Ray: the cluster that submitted it, or one of its own on this machine."""

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOCAL_OBJECT_STORE_BYTES = 200 * 2**20


def require_token() -> None:
    """Switch Ray's token authentication on for this process and its children, with the user's token or a new one.

    A new token lives in this process's environment only: one in `~/.ray/auth_token` would change how every later
    Ray cluster of this user starts. Ray reads these variables once, when it is first imported.
    """
    assert "ray" not in sys.modules or os.environ.get("RAY_AUTH_MODE"), "imported Ray before its token was set"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    known = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if not known and not Path("~/.ray/auth_token").expanduser().exists():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


@contextmanager
def connect(**options: Any) -> Iterator[None]:
    """Connect to `RAY_ADDRESS`, or start Ray on this machine with token authentication; disconnect at the end.

    Args:
        options: for `ray.init` where Ray is started here.
    """
    require_token()
    import ray

    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
    else:
        # Without the state API that comes with the dashboard, Ray Train warns without end.
        ray.init(
            address="local",
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
            log_to_driver=False,
            **options,
        )
    try:
        yield
    finally:
        ray.shutdown()
