"""Opening a store by its URI, and finding the root from the environment."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from llama_platform.errors import ConfigError
from llama_platform.storage.base import ObjectStore
from llama_platform.storage.local import LocalStore


def open_store(uri: str) -> ObjectStore:
    """Return the store for `file:///folder`, a plain path, or `s3://bucket/prefix`.

    Raises:
        ConfigError: the scheme is not known, or the bucket is missing.
    """
    if uri.startswith("s3://"):  # not a URL: `?` and `#` are ordinary parts of keys
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise ConfigError(f"store {uri!r}: no bucket; write s3://bucket/prefix")
        # boto3 takes half a second to import: local runs do without it.
        from llama_platform.storage.s3 import S3Store

        return S3Store(bucket, prefix.strip("/"))
    scheme, separator, rest = uri.partition("://")
    if scheme == "file" and separator:  # `?` and `#` are parts of folders' names, too
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost") or not slash:
            raise ConfigError(f"store {uri!r}: a local store is written file:///absolute/folder")
        return LocalStore(Path("/" + unquote(path)))
    if not separator and uri:
        return LocalStore(Path(uri))
    raise ConfigError(f"store {uri!r}: unknown scheme '{scheme}'; use file:///folder or s3://bucket/prefix")


def find_objects(source: str) -> tuple[str, str, list[str]]:
    """Return (root, last, keys) of what a URI names: an object, a prefix, or a bucket alone.

    `root` is the URI that keys are relative to, the folder of the object or prefix; `last` is its name there, empty for
    a bucket alone.

    Raises:
        ConfigError: the scheme is not known, or the bucket is missing.
        StorageError: the store refuses.
    """
    root, _, last = source.rstrip("/").rpartition("/")
    root, last = (source.rstrip("/"), "") if root.endswith("/") else (root, last)  # a bucket alone
    keys = open_store(root).list_keys(last)
    return root, last, [key for key in keys if last in ("", key) or key.startswith(f"{last}/")]


def root_from_environment(environ: Mapping[str, str]) -> str | None:
    """Return `s3://$MODEL_BUCKET/$MODEL_S3_PREFIX` where these are set, else None."""
    bucket = environ.get("MODEL_BUCKET", "")
    prefix = environ.get("MODEL_S3_PREFIX", "").strip("/")
    return f"s3://{bucket}/{prefix}".rstrip("/") if bucket else None
