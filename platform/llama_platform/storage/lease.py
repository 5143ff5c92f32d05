"""Lease: one holder at a time of something in a store, by conditional writes; one that dies lets go by itself.

The holder renews it in a thread. Who finds it held waits for the time that it has left: a renewal meanwhile shows that
its holder lives, and it is refused, else it is taken over. A holder on this machine whose process has ended is not
waited for. (Gray and Cheriton, «Leases», SOSP 1989.)
"""

import json
import logging
import os
import socket
import threading
import time
from types import TracebackType

import psutil

from llama_platform.errors import ConflictError, NotFoundError, StorageError
from llama_platform.storage.base import ObjectStore, PreconditionFailedError

log = logging.getLogger(__name__)
LEASE_S = 30.0
"""How long a lease lasts that is not renewed, in seconds."""
LOOK_S = 0.5


class Lease:
    """A context manager: held inside, let go at its end."""

    def __init__(
        self, store: ObjectStore, key: str, what: str, *, wait_s: float = 0.0, lease_s: float = LEASE_S
    ) -> None:
        """Hold nothing yet.

        Args:
            store: where it lies.
            key: key of the lease's object.
            what: what is held, for errors, such as `run r1`.
            wait_s: how long to wait for a holder that lives; 0 refuses as soon as it shows.
            lease_s: how long it lasts without being renewed, in seconds.
        """
        self._store, self._key, self._what, self._wait_s, self._lease_s = store, key, what, wait_s, lease_s
        self._holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": psutil.Process().create_time()}
        self._etag = ""
        self._until = 0.0
        self._ended = threading.Event()
        self._lost: str | None = None
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        """Take the lease.

        Raises:
            ConflictError: somebody else holds it; the text says who.
            StorageError: the store refuses.
        """
        begun = time.monotonic()
        while not self._take(begun):
            time.sleep(LOOK_S)
        self._until = time.monotonic() + self._lease_s
        self._renewing.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go."""
        self._ended.set()
        self._renewing.join()
        if self._lost is None:
            try:
                self._store.delete(self._key)
            except StorageError as failure:  # it lapses by itself
                log.warning("a lease could not be let go: %s", failure)

    def check(self) -> None:
        """Check that it is still held.

        Raises:
            ConflictError: somebody else has taken it over, or the store was away for so long that they might have.
        """
        if self._lost is not None:
            raise ConflictError(f"{self._what}: {self._lost}")
        if time.monotonic() > self._until:
            raise ConflictError(f"{self._what}: the store was away for too long to know that nobody else holds it")

    def _take(self, begun: float) -> bool:
        """Take what is free or has lapsed; return False to look again."""
        try:
            found = self._store.read(self._key)
        except NotFoundError:
            return self._write(if_absent=True)
        holder, etag = json.loads(found.content), found.etag
        if _has_ended(holder):
            return self._write(if_match=etag)
        deadline = time.monotonic() + float(holder["lease_s"])
        while time.monotonic() < deadline:
            time.sleep(LOOK_S)
            try:
                now = self._store.read(self._key)
            except NotFoundError:
                return False
            if now.etag != etag:
                if time.monotonic() - begun < self._wait_s:
                    return False
                raise ConflictError(
                    f"{self._what} is held by process {holder['pid']} on {holder['host']}, which is at work; wait for "
                    "its end, or end it"
                )
            if _has_ended(holder):
                break
        return self._write(if_match=etag)

    def _write(self, *, if_absent: bool = False, if_match: str | None = None) -> bool:
        content = json.dumps({**self._holder, "lease_s": self._lease_s, "renewed": time.time()}).encode()
        try:
            self._etag = self._store.write(self._key, content, if_absent=if_absent, if_match=if_match)
        except PreconditionFailedError:
            return False
        return True

    def _renew(self) -> None:
        while not self._ended.wait(self._lease_s / 4):
            try:
                if not self._write(if_match=self._etag):
                    self._lost = "somebody else has taken it over"
                    return
                self._until = time.monotonic() + self._lease_s
            except StorageError as error:  # the next try is seconds away
                log.warning("a lease could not be renewed: %s", error)


def _has_ended(holder: dict[str, object]) -> bool:
    """Tell whether a holder was a process of this machine that is no more."""
    if holder["host"] != socket.gethostname():
        return False
    try:
        return psutil.Process(int(str(holder["pid"]))).create_time() != holder["started"]
    except psutil.NoSuchProcess:
        return True
