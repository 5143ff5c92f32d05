"""Acts of administration beside HTTP, in the audit trail."""

import getpass
import socket
import sys
from typing import Any

from llama_platform.audit.journal import record_act
from llama_platform.audit.records import new_writer
from llama_platform.errors import PlatformError
from llama_platform.storage.base import ObjectStore


def acted(store: ObjectStore, what: str, **facts: Any) -> None:
    """Record what was done; where that fails, say so: what was done stays done.

    Args:
        store: where it was done, and where the trail is.
        what: such as `keys.revoke`.
        **facts: on what; never a secret.
    """
    try:
        record_act(store, act_writer(), what, {"who": f"{_user()}@{socket.gethostname()}", **facts})
    except PlatformError as error:
        print(f"done, but not in the audit trail: {error}", file=sys.stderr)


def act_writer() -> str:
    """Return a name for the chain of one act, which no other ever has."""
    return f"cli-{new_writer()}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"
