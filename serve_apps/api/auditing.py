"""Auditor: one record of the audit trail for each request, before it is answered."""

import logging
from typing import Any, Protocol

from llama_platform.access.keys import Caller
from llama_platform.audit.records import Kind
from llama_platform.errors import StorageError
from serve_apps.api.middleware.access_log import RequestRecord
from serve_apps.api.middleware.request_context import State
from serve_apps.config import AuditConfig

log = logging.getLogger(__name__)
UNRECORDED = frozenset("none / /health /health/live /health/ready /docs /docs/oauth2-redirect /openapi.json".split())
"""Routes that do nothing and tell nothing, and requests to none."""
BEGUN = "audit_begun"


class AuditJournal(Protocol):
    """What records are appended to."""

    def append(self, kind: Kind, facts: dict[str, Any]) -> None:
        """Write a record durably.

        Raises:
            StorageError: it cannot be written.
        """
        ...


class Auditor:
    """Of one application."""

    def __init__(self, journal: AuditJournal | None, config: AuditConfig, fingerprint: str) -> None:
        """Write to `journal`; None writes nothing.

        Args:
            journal: where records go.
            config: what they hold, and what happens where they cannot be written.
            fingerprint: prompt fingerprint of the application.
        """
        self._journal, self._config, self._fingerprint = journal, config, fingerprint
        self._failing = False

    def answering(self, state: State, record: RequestRecord, status: int, streams: bool) -> None:
        """Write the record of a request whose response is about to begin.

        Args:
            state: what is known of the request.
            record: the same for the log.
            status: HTTP status.
            streams: whether the answer is still to be generated; it has a record of its end, too.

        Raises:
            StorageError: it cannot be written, and requests are refused then.
        """
        if not streams:
            self._append("request", state, record, status)
        elif BEGUN not in state:
            state[BEGUN] = True
            self._append("begin", state, record, status)

    def ended(self, state: State, record: RequestRecord, status: int) -> None:
        """Write how a stream ended, or that a client left before it was answered."""
        if BEGUN in state or status == 0:
            try:
                self._append("end" if BEGUN in state else "request", state, record, status)
            except StorageError:
                log.error("the end of a stream is not in the audit trail", extra={"request": record.request_id})

    def _append(self, kind: Kind, state: State, record: RequestRecord, status: int) -> None:
        if self._journal is None or record.route in UNRECORDED:
            return
        caller: Caller | None = state.get("caller")
        facts = {
            "request": record.request_id,
            "tenant": caller.tenant if caller is not None else "",
            "key": caller.key if caller is not None else "",
            **record.audit(status, self._config.content == "full"),
            "prompt_fingerprint": self._fingerprint,
        }
        try:
            self._journal.append(kind, facts)
        except StorageError as error:
            if self._config.on_failure == "refuse":
                raise
            if not self._failing:
                log.error("requests are answered without a record: the audit trail cannot be written", exc_info=error)
            self._failing = True
        else:
            self._failing = False
