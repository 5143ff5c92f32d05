import base64
import hashlib
import json

import boto3
import pytest
from botocore.exceptions import ClientError

from llama_platform.errors import IntegrityError, NotFoundError, StorageError
from llama_platform.storage.base import PreconditionFailedError
from llama_platform.storage.open_store import open_store
from llama_platform.storage.s3 import S3Store, composite_checksum


def test_composite_checksum_is_the_digest_of_the_parts_digests(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"aaab")
    parts = hashlib.sha256(b"aaa").digest() + hashlib.sha256(b"b").digest()
    expected = base64.b64encode(hashlib.sha256(parts).digest()).decode() + "-2"
    assert composite_checksum(path, 3) == expected


def test_an_object_that_arrived_different_is_an_error(s3_uri, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"sent")
    with pytest.raises(IntegrityError, match="checksum"):
        open_store(s3_uri).upload(path, "k", hashlib.sha256(b"other").hexdigest())


def test_a_server_without_checksums_is_read_back(s3_uri, tmp_path, monkeypatch):
    store = open_store(s3_uri)
    assert isinstance(store, S3Store)
    head = store._client.head_object

    def without_checksum(**kwargs):
        answer = head(**kwargs)
        answer.pop("ChecksumSHA256", None)
        return answer

    monkeypatch.setattr(store._client, "head_object", without_checksum)
    path = tmp_path / "f"
    path.write_bytes(b"sent")
    store.upload(path, "k", hashlib.sha256(b"sent").hexdigest())
    with pytest.raises(IntegrityError, match="arrived with sha256"):
        store.upload(path, "k", hashlib.sha256(b"other").hexdigest())


def test_denied_access_names_the_missing_permission(s3_auth_server, monkeypatch):
    """A user with s3:GetObject alone, against a server that enforces IAM policies."""
    endpoint, root_keys = s3_auth_server
    admin = boto3.session.Session(
        aws_access_key_id=root_keys[0], aws_secret_access_key=root_keys[1], region_name="us-east-1"
    )
    admin.client("s3", endpoint_url=endpoint).create_bucket(Bucket="guarded")
    iam = admin.client("iam", endpoint_url=endpoint)
    iam.create_user(UserName="reader")
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::guarded/*"}],
    }
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    store = open_store("s3://guarded/prefix")
    with pytest.raises(StorageError, match=r"access denied: .*needs s3:PutObject on guarded/prefix/\*"):
        store.write("models/x", b"")
    with pytest.raises(StorageError, match=r"needs s3:ListBucket on guarded"):
        list(store.list_keys("models/"))


def test_a_write_whose_answer_was_lost_counts_as_done(s3_uri, monkeypatch):
    store = open_store(s3_uri)
    put = store._client.put_object

    def put_twice(**kwargs):  # what boto3 does when the first answer does not arrive
        put(**kwargs)
        return put(**kwargs)

    monkeypatch.setattr(store._client, "put_object", put_twice)
    etag = store.write("versions/1.json", b"mine", if_absent=True)
    assert store.read("versions/1.json").etag == etag
    assert store.write("versions/1.json", b"next", if_match=etag) == store.read("versions/1.json").etag
    monkeypatch.undo()
    with pytest.raises(PreconditionFailedError):
        store.write("versions/1.json", b"theirs", if_absent=True)


@pytest.mark.parametrize("ignored", [{"IfNoneMatch"}, {"IfMatch"}, {"IfNoneMatch", "IfMatch"}])
def test_a_server_that_ignores_conditions_is_refused_before_anything_is_published(s3_uri, monkeypatch, ignored):
    store = open_store(s3_uri)
    put = store._client.put_object
    heedless = lambda **kwargs: put(**{key: value for key, value in kwargs.items() if key not in ignored})  # noqa: E731
    monkeypatch.setattr(store._client, "put_object", heedless)
    with pytest.raises(StorageError, match="this server ignores If-"):
        store.write("versions/1.json", b"mine", if_absent=True)
    assert list(store.list_keys("")) == []
    store.write("plain", b"without a condition")


def test_a_write_that_met_another_one_is_tried_again(s3_uri, monkeypatch):
    monkeypatch.setattr("llama_platform.storage.s3.CONFLICT_PAUSES_S", (0.0, 0.0, 0.0))
    store = open_store(s3_uri)
    store.write("first", b"", if_absent=True)
    put, conflicts = store._client.put_object, [1, 2]

    def busy(**kwargs):
        if conflicts:
            conflicts.pop()
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict", "Message": "try again"}}, "PutObject")
        return put(**kwargs)

    monkeypatch.setattr(store._client, "put_object", busy)
    store.write("versions/1.json", b"mine", if_absent=True)
    conflicts += [1] * 9
    with pytest.raises(PreconditionFailedError, match="at the same moment"):
        store.write("versions/2.json", b"mine", if_absent=True)


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        ("ExpiredToken", 400, "renew them"),
        ("RequestTimeTooSkewed", 403, "set the clock"),
        ("SignatureDoesNotMatch", 403, "AWS_SECRET_ACCESS_KEY"),
        ("NotImplemented", 501, ""),
        ("AccessDenied", 403, r"s3:GetObject on .*, and s3:ListBucket on"),
    ],
)
def test_the_servers_own_sentence_and_advice_that_fits_are_told(s3_uri, monkeypatch, code, status, words):
    store = open_store(s3_uri)

    def refused(**_):
        answer = {"Error": {"Code": code, "Message": "so it is"}, "ResponseMetadata": {"HTTPStatusCode": status}}
        raise ClientError(answer, "GetObject")

    monkeypatch.setattr(store._client, "get_object", refused)
    with pytest.raises(StorageError, match=f"so it is \\({code}\\).*{words}"):
        store.read("k")


def test_renewed_credentials_are_taken_up(s3_auth_server, monkeypatch, tmp_path):
    endpoint, (key, secret) = s3_auth_server
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    profile = "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n"
    file.write_text(profile.format("AKIAOLD", "old"))
    store = open_store("s3://renewed")
    with pytest.raises(StorageError, match="check AWS_ACCESS_KEY_ID"):
        store.read("k")
    file.write_text(profile.format(key, secret))
    store._client.create_bucket(Bucket="renewed")
    with pytest.raises(NotFoundError):
        store.read("k")
