"""FeedbackBook: conversations that may be learned from, and opinions of their answers, in the store.

A conversation lies under its tenant and its request, with its day and a digest of its user in the key, so that users
are forgotten, and days expire, by listing alone:

    feedback/<tenant>/<request>/conversation-<day>-<user>.json
    feedback/<tenant>/<request>/opinion-<id>.json
"""

import hashlib
import re
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llama_platform.errors import ConflictError, InputError, IntegrityError, NotFoundError
from llama_platform.storage.base import ObjectStore

ROOT = "feedback"
NOBODY = "-"
"""Stands for the tenant where no keys are asked for."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}|-")
_CONVERSATION = re.compile(r"conversation-(\d{4}-\d\d-\d\d)-([0-9a-f]{16})\.json")
Text = Annotated[str, Field(max_length=100_000)]


class Turn(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: str


class Conversation(BaseModel):
    """What was asked and answered by one request."""

    model_config = ConfigDict(extra="forbid")

    request: str
    tenant: str = ""
    user: str = ""
    """As the client named it; empty where it did not."""
    time: datetime
    messages: list[Turn]
    answer: str
    adapter: str | None = None
    version: int | None = None
    digest: str | None = None
    alias: str | None = None
    """Alias that split its traffic and chose the version; None where there was no choice."""
    generation: int | None = None
    """Generation of that alias."""


class Opinion(BaseModel):
    """What somebody says of an answer; at least one thing."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"not": {"enum": [None, []]}}}}
                for name in ("rating", "correction", "better_than", "tags", "comment")
            ]
        },
    )

    rating: Literal["up", "down"] | None = None
    correction: Annotated[Text, Field(min_length=1, pattern=r"\S")] | None = Field(
        None, description="what the answer should have been"
    )
    better_than: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None, description="id of a request with the same messages whose answer is worse"
    )
    tags: Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=16)] = []
    comment: Annotated[str, Field(min_length=1, max_length=4000)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Opinion":
        if not (self.rating or self.correction or self.better_than or self.tags or self.comment):
            raise ValueError("'rating', 'correction', 'better_than', 'tags' and 'comment' are all missing; give one")
        return self


class TimedOpinion(Opinion):
    """An opinion as it is kept."""

    time: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """A conversation and all that is said of it, oldest first."""

    conversation: Conversation
    opinions: tuple[TimedOpinion, ...]


class FeedbackBook:
    """Of one store."""

    def __init__(self, store: ObjectStore) -> None:
        """Keep everything in `store`."""
        self._store = store

    def keep(self, conversation: Conversation) -> None:
        """Keep a conversation.

        Raises:
            ConflictError: one is kept under that request already: what is said of it must not be of another.
            StorageError: the store refuses.
        """
        day = conversation.time.astimezone(UTC).date()
        name = f"conversation-{day}-{_user(conversation.user)}.json"
        folder = _folder(conversation.tenant, conversation.request)
        if next(iter(self._store.list_keys(folder)), None) is not None:
            raise ConflictError(f"request: a conversation is kept under '{conversation.request}' already")
        self._store.write(f"{folder}{name}", conversation.model_dump_json().encode(), if_absent=True)

    def add(self, tenant: str, request: str, opinion: Opinion) -> str:
        """Keep an opinion of a conversation of the same tenant; return its id.

        Raises:
            NotFoundError: no conversation is kept under that request, or under the one that it is compared with.
            InputError: it is compared with an answer to something else.
        """
        entry = self.find(tenant, request)
        if opinion.better_than is not None:
            other = self.find(tenant, opinion.better_than)
            if other.conversation.messages != entry.conversation.messages:
                raise InputError(f"better_than: request {opinion.better_than} asked something else")
        made, now = secrets.token_hex(6), datetime.now(UTC)
        kept = TimedOpinion(**opinion.model_dump(), time=now)
        self._store.write(f"{_folder(tenant, request)}opinion-{made}.json", kept.model_dump_json().encode())
        return made

    def find(self, tenant: str, request: str) -> Entry:
        """Return a conversation with what is said of it.

        Raises:
            NotFoundError: none is kept under that request.
        """
        keys = list(self._store.list_keys(_folder(tenant, request)))
        if not any("/conversation-" in key for key in keys):
            raise NotFoundError(f"request: no conversation is kept under '{request}'")
        return self._read(keys)

    def entries(self, tenant: str | None = None) -> Iterator[Entry]:
        """Yield what is kept, of one tenant or of all, in order of tenants and requests."""
        for keys in self._folders(tenant).values():
            if any("/conversation-" in key for key in keys):
                with suppress(NotFoundError):  # it has been forgotten meanwhile
                    yield self._read(keys)

    def forget(self, user: str, tenant: str | None = None) -> int:
        """Delete all conversations of a user and what is said of them; return how many.

        Raises:
            InputError: the user is named by an empty text, which is everybody who was not named.
        """
        if not user:
            raise InputError("user: an empty name is nobody's")
        return self._delete(tenant, lambda _day, digest: digest == _user(user))

    def expire(self, before: date, tenant: str | None = None) -> int:
        """Delete the conversations of the days before one; return how many."""
        return self._delete(tenant, lambda day, _digest: day < before)

    def _delete(self, tenant: str | None, chosen: Callable[[date, str], bool]) -> int:
        count = 0
        for keys in self._folders(tenant).values():
            named = [found for key in keys if (found := _CONVERSATION.fullmatch(key.rpartition("/")[2]))]
            # An opinion without its conversation was written while that was deleted.
            if not named or any(chosen(date.fromisoformat(one[1]), one[2]) for one in named):
                for key in sorted(keys, reverse=True):  # the conversation last: what is interrupted is found again
                    self._store.delete(key)
                count += bool(named)
        return count

    def _folders(self, tenant: str | None) -> dict[str, list[str]]:
        """Return the keys of each conversation's folder."""
        prefix = f"{ROOT}/" if tenant is None else f"{ROOT}/{_part(tenant or NOBODY)}/"
        found: dict[str, list[str]] = defaultdict(list)
        for key in self._store.list_keys(prefix):
            found[key.rpartition("/")[0]].append(key)
        return dict(sorted(found.items()))

    def _read(self, keys: list[str]) -> Entry:
        conversation = next(key for key in sorted(keys) if "/conversation-" in key)
        opinions = [key for key in keys if "/opinion-" in key]
        try:
            said = [TimedOpinion.model_validate_json(self._store.read(key).content) for key in opinions]
            asked = Conversation.model_validate_json(self._store.read(conversation).content)
        except ValueError as error:
            raise IntegrityError(f"{conversation.rpartition('/')[0]}: not as it was written: {error}") from error
        return Entry(asked, tuple(sorted(said, key=lambda one: one.time)))


def _folder(tenant: str, request: str) -> str:
    return f"{ROOT}/{_part(tenant or NOBODY)}/{_part(request)}/"


def _part(name: str) -> str:
    """Return a name as part of a key: itself where it may be one, else a digest."""
    return name if _NAME.fullmatch(name) else f"~{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:32]}"


def _user(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:16]
