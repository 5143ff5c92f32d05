"""S3Store: `s3://` URIs, on AWS or any server that speaks S3 (`AWS_ENDPOINT_URL`). The only user of boto3.

Credentials, region and endpoint come from boto3's usual chain. Retries (standard mode) and multipart transfers
are boto3's; that an upload arrived whole is checked here.
"""

import base64
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config as ClientConfig
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError as S3TransferError

from llama_platform.errors import IntegrityError, NotFoundError, StorageError
from llama_platform.storage.base import PreconditionFailedError, StoredObject, check_key
from llama_platform.storage.regular_files import open_file

PART_BYTES = 8 * 1024 * 1024
PERMISSIONS = {
    "write": "s3:PutObject",
    "upload": "s3:PutObject and s3:AbortMultipartUpload",
    "read": "s3:GetObject",
    "list": "s3:ListBucket",
    "delete": "s3:DeleteObject",
}


ADVICE = {
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"),
        "the credentials have expired: renew them",
    ),
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "AuthorizationHeaderMalformed"),
        "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and the region",
    ),
    "RequestTimeTooSkewed": "set the clock of this machine",
}
"""What to do about a server's error, by its code."""
CONFLICT_PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.6)
"""How long is waited after each write that met another one at the same moment, in seconds."""
_CHECKED: set[str] = set()
"""Roots whose server was seen to heed conditions."""
_CHECKING = threading.Lock()


class _Busy(StorageError):
    """Another write of the same key is under way; S3 asks to try again."""


class _NotModified(StorageError):
    """The object is still in the state that the reader knows."""


class S3Store:
    """Objects below `s3://bucket/prefix`."""

    def __init__(self, bucket: str, prefix: str) -> None:
        """Make a client; nothing is sent before the first call."""
        self._bucket = bucket
        self._prefix = prefix
        self._made_from, self._made = _credentials_files(), self._make_client()
        self._transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)

    @property
    def _client(self) -> Any:
        """The client; another one once the files with the credentials have changed, which boto3 reads only once."""
        if (files := _credentials_files()) != self._made_from:
            self._made_from, self._made = files, self._make_client()
        return self._made

    def _make_client(self) -> Any:
        retries = {"mode": "standard", "max_attempts": 5}
        try:
            return boto3.session.Session().client(
                "s3", config=ClientConfig(retries=retries, connect_timeout=10, read_timeout=60)
            )
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"{self.root}: cannot make an S3 client: {error}") from error

    @property
    def root(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def write(self, key: str, content: bytes, *, if_absent: bool = False, if_match: str | None = None) -> str:
        """One PutObject, with If-None-Match or If-Match; see ObjectStore."""
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": if_match} if if_match else {}
        if condition:
            self._check_conditions()
        for pause_s in CONFLICT_PAUSES_S:
            try:
                return self._put(key, content, condition)
            except _Busy:
                time.sleep(pause_s)
            except PreconditionFailedError:
                # boto3 sends again what got no answer: the condition may have failed because of our own first try.
                stored = self.read(key)
                if stored.content != content:
                    raise
                return stored.etag
        raise PreconditionFailedError(f"{self.root}/{key}: others kept writing it at the same moment")

    def _put(self, key: str, content: bytes, condition: Mapping[str, str]) -> str:
        checksum = base64.b64encode(hashlib.sha256(content).digest()).decode()
        with self._reported("write", key):
            answer = self._client.put_object(
                Bucket=self._bucket, Key=self._key(key), Body=content, ChecksumSHA256=checksum, **condition
            )
        return _unquoted(answer["ETag"])

    def _check_conditions(self) -> None:
        """Check once a process that the server heeds the conditions of writes.

        Raises:
            StorageError: it does not: each of several publishers would be told that its version is the one.
        """
        with _CHECKING:
            if self.root in _CHECKED:
                return
            key = f"probe/{secrets.token_hex(8)}"
            try:
                tag = self._put(key, b"1", {"IfNoneMatch": "*"})
            except PreconditionFailedError:  # boto3 sent it again: the first try had arrived
                tag = self.read(key).etag
            ignored = []
            for name, condition in (("If-None-Match", {"IfNoneMatch": "*"}), ("If-Match", {"IfMatch": tag[::-1]})):
                try:
                    self._put(key, b"2", condition)
                except (PreconditionFailedError, _Busy):
                    continue
                ignored.append(name)
            with suppress(StorageError):  # a role that may not delete leaves one byte behind
                self.delete(key)
            if ignored:
                raise StorageError(
                    f"{self.root}: this server ignores {' and '.join(ignored)} of PutObject, so several writers would "
                    "overwrite each other's versions: use a server with conditional writes"
                )
            _CHECKED.add(self.root)

    def read(self, key: str) -> StoredObject:
        """One GetObject; see ObjectStore."""
        with self._reported("read", key):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
            return StoredObject(answer["Body"].read(), _unquoted(answer["ETag"]))

    def read_if_changed(self, key: str, etag: str | None) -> StoredObject | None:
        """One GetObject with If-None-Match; see ObjectStore."""
        condition = {"IfNoneMatch": f'"{etag}"'} if etag else {}
        try:
            with self._reported("read", key):
                found = self._client.get_object(Bucket=self._bucket, Key=self._key(key), **condition)
                stored = StoredObject(found["Body"].read(), _unquoted(found["ETag"]))
        except _NotModified:
            return None
        return None if stored.etag == etag else stored

    def upload(self, path: Path, key: str, sha256: str) -> None:
        """Multipart above 8 MiB, a SHA-256 with every part, then compared with the server's; see ObjectStore."""
        with self._reported("upload", key), open_file(path) as file:
            # upload_fileobj, unlike upload_file, lets the server's own error through.
            self._client.upload_fileobj(
                file,
                self._bucket,
                self._key(key),
                ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                Config=self._transfer,
            )
            self._verify(path, key, sha256)

    def matches(self, path: Path, key: str, sha256: str) -> bool:
        """One HeadObject, compared with the server's checksum; see ObjectStore."""
        try:
            with self._reported("read", key):
                self._verify(path, key, sha256)
        except (IntegrityError, NotFoundError):
            return False
        return True

    def download(self, key: str, path: Path) -> None:
        """Ranged, parallel GetObject; see ObjectStore."""
        with self._reported("read", key), path.open("wb") as file:
            self._client.download_fileobj(self._bucket, self._key(key), file, Config=self._transfer)

    def size(self, key: str) -> int:
        """One HeadObject; see ObjectStore."""
        with self._reported("read", key):
            return int(self._client.head_object(Bucket=self._bucket, Key=self._key(key))["ContentLength"])

    def modified(self, key: str) -> datetime:
        """One HeadObject; see ObjectStore."""
        with self._reported("read", key):
            found: datetime = self._client.head_object(Bucket=self._bucket, Key=self._key(key))["LastModified"]
            return found

    def check(self) -> None:
        """One ListObjectsV2 of one key; see ObjectStore."""
        with self._reported("list", ""):
            start = f"{self._prefix}/" if self._prefix else ""  # as roles are allowed to ask
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=start, MaxKeys=1)

    def list_keys(self, prefix: str) -> Iterator[str]:
        """Pages of ListObjectsV2; see ObjectStore."""
        start = f"{self._prefix}/" if self._prefix else ""
        with self._reported("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start + prefix)
            for page in pages:
                yield from (item["Key"].removeprefix(start) for item in page.get("Contents", ()))

    def list_folders(self, prefix: str) -> list[str]:
        """Pages of ListObjectsV2 with a delimiter; see ObjectStore."""
        start = f"{self._prefix}/{prefix}" if self._prefix else prefix
        with self._reported("list", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start, Delimiter="/"
            )
            found = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", ())]
        return [folder.removeprefix(start).rstrip("/") for folder in found]

    def delete(self, key: str) -> None:
        """One DeleteObject; see ObjectStore."""
        with self._reported("delete", key):
            self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{check_key(key)}" if self._prefix else check_key(key)

    def _verify(self, path: Path, key: str, sha256: str) -> None:
        head = self._client.head_object(Bucket=self._bucket, Key=self._key(key), ChecksumMode="ENABLED")
        size = path.stat().st_size
        if head["ContentLength"] != size:
            raise IntegrityError(f"{self.root}/{key}: {head['ContentLength']} bytes arrived of {size}")
        # Only the composite of a multipart upload is known, with or without its part count behind a dash.
        stored = head.get("ChecksumSHA256", "").partition("-")[0]
        expected, parts = (
            base64.b64encode(bytes.fromhex(sha256)).decode(),
            _unquoted(head["ETag"]).partition("-")[2],
        )
        if parts:
            expected, _, count = composite_checksum(path, PART_BYTES).partition("-")
            if parts != count:
                stored = ""  # the server cut parts of another size: its composite cannot be compared
        if not stored:
            self._verify_by_reading(key, sha256)
        elif stored != expected:
            raise IntegrityError(f"{self.root}/{key}: the server's checksum {stored} is not {expected}")

    def _verify_by_reading(self, key: str, sha256: str) -> None:
        digest = hashlib.sha256()
        body = self._client.get_object(Bucket=self._bucket, Key=self._key(key))["Body"]
        for block in body.iter_chunks(1024 * 1024):
            digest.update(block)
        if digest.hexdigest() != sha256:
            raise IntegrityError(f"{self.root}/{key}: arrived with sha256 {digest.hexdigest()}, sent {sha256}")

    @contextmanager
    def _reported(self, action: str, key: str) -> Iterator[None]:
        uri = f"{self.root}/{key}"
        try:
            yield
        except ClientError as error:
            raise self._translated(error, action, uri) from error
        except (BotoCoreError, Boto3Error, S3TransferError) as error:
            raise StorageError(f"cannot {action} {uri}: {error}") from error

    def _translated(self, error: ClientError, action: str, uri: str) -> Exception:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 304:
            return _NotModified(uri)
        if code == "NoSuchBucket":
            return StorageError(
                f"cannot {action} {uri}: bucket '{self._bucket}' does not exist; create it, or correct the store's URI"
            )
        if code == "ConditionalRequestConflict":
            return _Busy(f"{uri}: is being written by somebody else")
        if code == "PreconditionFailed" or status == 412:
            return PreconditionFailedError(f"{uri}: changed by somebody else")
        if code in ("NoSuchKey", "404", "NotFound"):
            return NotFoundError(f"{uri}: does not exist")
        said = str(error.response.get("Error", {}).get("Message") or error)
        if (advice := ADVICE.get(code)) is not None:
            return StorageError(f"cannot {action} {uri}: {said} ({code}); {advice}")
        if status == 403:
            scope = self._bucket if action == "list" else f"{self._bucket}/{self._prefix}/*".replace("//", "/")
            needed = f"the role needs {PERMISSIONS[action]} on {scope}"
            if action == "read":  # without that permission, servers answer so for what does not exist
                needed += f", and s3:ListBucket on {self._bucket}"
            return StorageError(f"cannot {action} {uri}: access denied: {said} ({code}); {needed}")
        if status == 501:
            return StorageError(f"cannot {action} {uri}: this server does not have what is needed: {said} ({code})")
        return StorageError(f"cannot {action} {uri}: {error}")


def composite_checksum(path: Path, part_bytes: int) -> str:
    """Return S3's composite SHA-256 of a multipart upload: base64 of the digest of digests, `-`, the part count.

    Source: Amazon S3 User Guide, «Checking object integrity», composite checksums.
    """
    digests = []
    with path.open("rb") as file:
        while part := file.read(part_bytes):
            digests.append(hashlib.sha256(part).digest())
    joined = hashlib.sha256(b"".join(digests)).digest()
    return f"{base64.b64encode(joined).decode()}-{len(digests)}"


def _credentials_files() -> tuple[tuple[str, int], ...]:
    """Return when the files that boto3 reads credentials from were last changed, in nanoseconds."""
    names = (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
        os.environ.get("AWS_CONFIG_FILE", "~/.aws/config"),
    )
    found = []
    for name in names:
        with suppress(OSError):
            found.append((name, Path(name).expanduser().stat().st_mtime_ns))
    return tuple(found)


def _unquoted(etag: str) -> str:
    # Some servers compare If-Match with the unquoted form only; Amazon's takes both.
    return etag.strip('"')
