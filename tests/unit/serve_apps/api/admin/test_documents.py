import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.errors import NotFoundError, UnavailableError
from rag.documents.sources import list_sources
from rag.indexing.build import IndexConfig, build_index
from rag.indexing.changes import read_change
from rag.indexing.workers import LocalWorkers

TOKEN = "t" * 32


@pytest.fixture
def http(make_http, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    return make_http(index="docs", admin_token_file=tmp_path / "token", limits={"max_upload_bytes": 20_000})


@pytest.fixture
def admin(http):
    def ask(method, path, token=TOKEN, **kwargs):
        return http._run(method, f"/admin/indexes{path}", headers={"authorization": f"Bearer {token}"}, **kwargs)

    return ask


@pytest.fixture
def index(repository, http, tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("a.md", "b.md", "c.md"):
        (tmp_path / "docs" / name).write_text(f"Text of {name}.")
    config = IndexConfig(name="docs", sources=(str(tmp_path / "docs"),))
    version, _ = build_index(repository, config, LocalWorkers(config, http.searcher.embedder), lambda line: None)
    Aliases(repository, "index", "docs").promote("production", version.version)
    return version


def test_documents_of_a_version_are_listed_in_pages(admin, index):
    found = admin("GET", "/docs/documents", params={"start": 1, "limit": 1}).json()
    assert (found["version"], found["total"]) == (1, 3)
    assert [(d["id"], d["chunks"]) for d in found["documents"]] == [("b.md", 1)]
    assert admin("GET", "/docs/documents", params={"version": "1"}).json()["total"] == 3
    assert admin("GET", "/docs/documents", params={"version": "7"}).status_code == 404
    assert admin("GET", "/docs/documents", params={"limit": 0}).status_code == 400


def test_indexes_are_listed_promoted_and_rolled_back_like_adapters(admin, index):
    assert [found["name"] for found in admin("GET", "").json()] == ["docs"]
    assert admin("GET", "/docs").json()["all_versions"] == [1]
    assert admin("POST", "/docs/promote", json={"version": 1, "alias": "blue"}).status_code == 200
    assert admin("POST", "/docs/promote", json={"version": 9}).status_code == 404
    assert admin("POST", "/docs/rollback").status_code == 404


def test_uploads_wait_in_the_store_for_a_job(admin, http, repository):
    files = [("files", ("guide/x.md", b"# X")), ("files", ("y.pdf", b"%PDF"))]
    response = admin("POST", "/docs/documents", files=files, data={"promote": "staging"})
    assert response.status_code == 202, response.text
    (queued,) = http.jobs.changes
    change, sources = read_change(repository, *queued)
    assert (change.promote, change.delete) == ("staging", ())
    assert [file.id for file in list_sources(sources)] == ["guide/x.md", "y.pdf"]
    state = admin("GET", response.json()["status"].removeprefix("/admin/indexes")).json()
    assert state["status"] == "RUNNING"


def test_deletions_are_queued_for_what_exists(admin, http, repository, index):
    response = admin("POST", "/docs/documents/delete", json={"documents": ["a.md", "old/"]})
    assert response.status_code == 202
    assert read_change(repository, *http.jobs.changes[-1])[0].delete == ("a.md", "old/")
    assert admin("POST", "/nobody/documents/delete", json={"documents": ["a.md"]}).status_code == 404
    assert admin("POST", "/docs/documents/delete", json={"documents": []}).status_code == 400


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("../../etc/passwd.md", 400, "cannot name a document"),
        ("/etc/x.md", 400, "cannot name a document"),
        ("x.exe", 400, "no format that is read"),
        ("noname", 400, "no format"),
    ],
)
def test_names_that_could_leave_the_store_are_refused(admin, http, repository, name, status, words):
    response = admin("POST", "/docs/documents", files=[("files", (name, b"x"))])
    assert (response.status_code, words in response.json()["detail"]) == (status, True), response.text
    assert list(repository.store.list_keys("changes/")) == []
    assert http.jobs.changes == []


def test_strangers_and_large_bodies_are_stopped_before_they_are_read(admin, http):
    files = [("files", ("x.md", b"x" * 30_000))]
    assert admin("POST", "/docs/documents", token="wrong", files=files).status_code == 401
    assert admin("POST", "/docs/documents", files=files).status_code == 413
    assert admin("POST", "/docs/documents", json={"x": 1}).status_code == 415
    assert admin("POST", "/Bad Name/documents", files=[("files", ("x.md", b"x"))]).status_code == 400
    assert admin("POST", "/docs/documents", data={"promote": "x"}).status_code in (400, 415)
    assert http.jobs.changes == []


def test_what_no_job_takes_is_not_left_behind(admin, http, repository, monkeypatch):
    def away(*_):
        raise UnavailableError("no jobs right now")

    monkeypatch.setattr(http.jobs, "submit", away)
    assert admin("POST", "/docs/documents", files=[("files", ("x.md", b"x"))]).status_code == 503
    assert list(repository.store.list_keys("changes/")) == []


def test_jobs_of_others_are_not_shown(admin):
    assert admin("GET", "/docs/jobs/index-other-000000000001").status_code == 404
    assert admin("GET", "/docs/jobs/raysubmit_1").status_code == 404


def test_an_unknown_index_has_no_documents(admin, repository):
    with pytest.raises(NotFoundError):
        repository.latest("index", "nobody")
    assert admin("GET", "/nobody/documents").status_code == 404
