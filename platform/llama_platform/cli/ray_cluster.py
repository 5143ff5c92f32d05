"""Connecting a job to Ray: the cluster that submitted it, or one of its own on this machine."""

import logging
import os
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_platform.errors import UnavailableError
from llama_platform.ports import is_listening

LOCAL_OBJECT_STORE_BYTES = 200 * 2**20
CONNECT_S = 10.0


def require_token(file: Path | None = None) -> str:
    """Switch Ray's token authentication on for this process and its children, with the user's token or a new one.

    Returns where the token is.

    A new token lives in this process's environment, or in `file`: one in `~/.ray/auth_token` would change how every
    later Ray cluster of this user starts. Ray reads these variables once, when it is first imported.
    """
    assert "ray" not in sys.modules or os.environ.get("RAY_AUTH_MODE"), "imported Ray before its token was set"
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "the environment variable RAY_AUTH_TOKEN"
    if known := os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return known
    if (users := Path("~/.ray/auth_token").expanduser()).exists():
        return str(users)
    if file is None:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        return "the environment of this process"
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(file.absolute())
    return str(file)


@contextmanager
def connect(
    token_file: Path | None = None, *, local: bool = False, metrics_port: int | None = None, show_events: bool = False
) -> Iterator[str]:
    """Connect to `RAY_ADDRESS`, or start Ray on this machine with token authentication; disconnect at the end.

    Yields the address of the dashboard.

    Args:
        token_file: where a new token is kept; None for this process's environment.
        local: start Ray here even where `RAY_ADDRESS` names a cluster.
        metrics_port: where a Ray that is started here exports its metrics; None for a port of its own choice.
        show_events: write the platform's events of all workers of a Ray that is started here to stderr, as a container
            should; they are in Ray's files in either case.

    Raises:
        UnavailableError: there is no cluster at `RAY_ADDRESS`.
    """
    require_token(token_file)
    # A killed HTTP proxy is replaced after three failed checks: 3 to 5 s of refused connections instead of 30.
    os.environ.setdefault("RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S", "1")
    import ray

    address = os.environ.get("RAY_ADDRESS")
    if address and not local:
        context = _join(address)
    else:
        # Without the state API that comes with the dashboard, Ray Train warns without end.
        context = ray.init(
            address="local",
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            object_store_memory=LOCAL_OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
            log_to_driver=show_events,
            _metrics_export_port=metrics_port,
        )
        if show_events:
            _show_events_only()
    try:
        yield str(context.dashboard_url)
    finally:
        ray.shutdown()


def _show_events_only() -> None:
    """Let this process write JSON lines of workers as they are, rather than all of their lines with names before."""
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as dispatcher

    def show(batch: dict[str, Any]) -> None:
        lines = [line for line in batch["lines"] if isinstance(line, str) and line.startswith('{"time": ')]
        print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr, flush=True)

    dispatcher.remove_handler("ray_print_logs")
    dispatcher.add_handler("events", show)


def _join(address: str) -> Any:
    """Connect to a running cluster; without a look first, Ray tries for minutes and speaks of its internals."""
    import ray

    gone = f"there is no Ray cluster at RAY_ADDRESS={address}"
    advice = "start one (ray start --head), correct the variable, or unset it to run on this machine alone"
    if re.fullmatch(r"[^/]+:\d+", address) and not is_listening(address, CONNECT_S):
        raise UnavailableError(f"{gone}: nothing listens there; {advice}")
    try:
        # What workers log stays in Ray's files: a job's lines are its own, and its errors come with the exception.
        return ray.init(logging_level=logging.WARNING, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UnavailableError(f"{gone} that can be joined ({error}); {advice}") from error
