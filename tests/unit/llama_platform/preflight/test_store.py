import pytest

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.preflight.store import check_store
from s3_fault_proxy import FaultProxy


def at(uri, tmp_path):
    return repository_from(StoreConfig(uri=uri, cache=tmp_path / "cache"), {})


def publish(repository, tmp_path):
    (tmp_path / "content").mkdir()
    (tmp_path / "content/a.txt").write_text("a")
    return repository.publish("adapter", "support", tmp_path / "content", {})


def test_a_bucket_that_can_be_used(s3_uri, tmp_path):
    repository = at(s3_uri, tmp_path)
    publish(repository, tmp_path)
    assert [finding.level for finding in check_store(repository)] == ["ok", "ok"]
    assert list(repository.store.list_keys("probe/")) == []


def test_a_folder_is_no_store_of_a_cluster(tmp_path):
    levels = [finding.level for finding in check_store(at((tmp_path / "store").as_uri(), tmp_path))]
    assert levels == ["warning", "ok", "ok"]


def test_a_bucket_that_is_not_there_is_one_finding(s3_uri, tmp_path):
    (finding,) = check_store(at("s3://no-such-bucket-anywhere/x", tmp_path))
    assert finding.level == "error"
    assert "no-such-bucket-anywhere" in finding.text


def test_a_store_of_another_release_is_named(s3_uri, tmp_path):
    repository = at(s3_uri, tmp_path)
    version = publish(repository, tmp_path)
    repository.store.write(f"models/support/objects/{version.digest}/manifest.json", b'{"format": 99}')
    problem = next(finding for finding in check_store(repository) if finding.level == "error")
    assert "adapter 'support'" in problem.text
    assert "another release" in problem.text


@pytest.mark.parametrize(("method", "level"), [("PUT", "error"), ("DELETE", "warning")])
def test_a_role_without_a_permission_is_told_which(aws_server, s3_uri, tmp_path, monkeypatch, method, level):
    with FaultProxy(aws_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        repository = at(s3_uri, tmp_path)
        proxy.refuse(method, "probe/", 403)
        findings = list(check_store(repository))
    assert level in [finding.level for finding in findings]
    assert "denied" in next(finding.text for finding in findings if finding.level == level)
