"""Connecting a job to Ray: the cluster that submitted it, or one of its own on this machine."""

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCAL_OBJECT_STORE_BYTES = 200 * 2**20


def require_token(file: Path | None = None) -> None:
    """Switch Ray's token authentication on for this process and its children, with the user's token or a new one.

    A new token lives in this process's environment, or in `file`: one in `~/.ray/auth_token` would change how every
    later Ray cluster of this user starts. Ray reads these variables once, when it is first imported.
    """
    assert "ray" not in sys.modules or os.environ.get("RAY_AUTH_MODE"), "imported Ray before its token was set"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    known = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if known or Path("~/.ray/auth_token").expanduser().exists():
        return
    if file is None:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    else:
        file.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32))
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(file.absolute())


@contextmanager
def connect(token_file: Path | None = None, *, local: bool = False) -> Iterator[str]:
    """Connect to `RAY_ADDRESS`, or start Ray on this machine with token authentication; disconnect at the end.

    Yields the address of the dashboard.

    Args:
        token_file: where a new token is kept; None for this process's environment.
        local: start Ray here even where `RAY_ADDRESS` names a cluster.
    """
    require_token(token_file)
    import ray

    if os.environ.get("RAY_ADDRESS") and not local:
        context = ray.init(logging_level=logging.WARNING)
    else:
        # Without the state API that comes with the dashboard, Ray Train warns without end.
        context = ray.init(
            address="local",
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    try:
        yield str(context.dashboard_url)
    finally:
        ray.shutdown()
