import time
import unicodedata

import pytest

from artifact_folders import fetched_folder
from llama_platform.artifacts.aliases import Aliases
from llama_platform.errors import ConfigError, ConflictError, InputError, IntegrityError, StorageError
from rag.dense_index import IndexingConfig
from rag.documents.chunking import ChunkingConfig
from rag.documents.document import Skipped
from rag.embedding import SentenceTransformerEmbedder
from rag.embedding_model import EmbeddingConfig
from rag.indexed_documents import DOCUMENTS_FILE, read_documents
from rag.indexing.build import IndexConfig, build_index
from rag.indexing.workers import LocalWorkers
from rag.search.query import Query
from rag.search.retriever import Retriever
from rag.snapshot import read_snapshot


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    (folder / "hot").mkdir(parents=True)
    (folder / "hot/tea.md").write_text("# Tea\n\nGreen tea needs water of eighty degrees.\n")
    (folder / "coffee.txt").write_text("Coffee needs boiling water.")
    (folder / "image.png").write_bytes(b"\x89PNG")
    return folder


@pytest.fixture(scope="module")
def offline():
    return SentenceTransformerEmbedder(EmbeddingConfig())


class Counting:
    """An embedder that counts its texts."""

    def __init__(self, embedder):
        self._embedder, self.texts = embedder, []
        self.name, self.fingerprint = embedder.name, embedder.fingerprint

    def embed(self, texts):
        self.texts += texts
        return self._embedder.embed(texts)


@pytest.fixture
def build(repository, docs, offline):
    """Build or update the index `drinks` of what is in the folder now."""

    def build(sources=(docs,), **fields):
        config = IndexConfig(name="drinks", sources=tuple(map(str, sources)), **fields)
        build.embedder = Counting(offline)
        return build_index(repository, config, LocalWorkers(config, build.embedder), lambda line: None)

    return build


def documents(repository, version):
    return {d.id: d.chunks for d in read_documents(repository.fetch_file(version, DOCUMENTS_FILE))}


def test_an_index_is_committed_with_its_documents(repository, build):
    version, report = build()
    metadata = repository.manifest(version).metadata
    assert documents(repository, version) == {"hot/tea.md": 1, "coffee.txt": 1}
    assert (metadata["documents"], metadata["chunks"], metadata["embedding"]["dimensions"]) == (2, 2, 384)
    assert list(metadata["skipped"]) == ["image.png"]
    assert (report.read, report.embedded, len(report.skipped)) == (2, 2, 1)
    again, _ = build()
    assert again == version


def test_only_what_has_changed_is_embedded_again(build, docs):
    build()
    (docs / "coffee.txt").write_text("Coffee needs boiling water, and a filter.")
    _, report = build()
    assert report.embedded == 1
    assert "filter" in build.embedder.texts[0]


def test_a_version_that_cannot_be_read_is_in_nobodys_way(repository, build):
    first, _ = build()
    (fetched_folder(repository, first) / "index.json").write_text("{}")
    for path in repository.store.list_keys(f"indexes/drinks/objects/{first.digest}/index.json"):
        repository.store.write(path, b"{}")
    with pytest.raises(IntegrityError):
        build(mode="update")
    version, report = build(indexing=IndexingConfig(hnsw_above=7))
    assert (version.version, report.embedded) == (2, 2)


def test_an_update_replaces_adds_and_deletes_by_id(repository, build, docs, tmp_path):
    build()
    more = tmp_path / "more"
    more.mkdir()
    (more / "coffee.txt").write_text("Coffee is out of stock.")
    (more / "milk.md").write_text("Milk is cold.")
    version, report = build((more,), mode="update", delete=("hot/", "unknown.md"))
    assert documents(repository, version) == {"coffee.txt": 1, "milk.md": 1}
    assert (report.deleted, report.unknown, report.embedded) == (1, ["unknown.md"], 2)
    texts = read_snapshot(fetched_folder(repository, version)).chunks.column("text").to_pylist()
    assert sorted(texts) == ["Coffee is out of stock.", "Milk is cold."]


def test_an_update_equals_a_fresh_build_of_the_same_documents(repository, build, docs, tmp_path):
    build()
    more = tmp_path / "more"
    more.mkdir()
    (more / "milk.md").write_text("Milk is cold.")
    updated, _ = build((more,), mode="update", delete=("coffee.txt",))
    (docs / "milk.md").write_text("Milk is cold.")
    (docs / "coffee.txt").unlink()
    (docs / "image.png").unlink()
    fresh, _ = build()
    assert fresh == updated


def test_an_update_keeps_the_settings_of_the_index(repository, build, tmp_path):
    build(chunking=ChunkingConfig(chunk_tokens=20))
    (tmp_path / "x.md").write_text("Milk is cold.")
    version, _ = build((tmp_path / "x.md",), mode="update")
    assert repository.manifest(version).metadata["chunking"]["chunk_tokens"] == 20


def test_nobodys_change_is_lost_when_two_update_at_once(repository, build, docs, tmp_path, monkeypatch):
    build()
    (tmp_path / "one.md").write_text("One is first.")
    (tmp_path / "two.md").write_text("Two is second.")
    publish, raced = repository.publish, []

    def slow(*arguments, **keywords):
        if not raced:  # the other one is faster
            raced.append(True)
            build((tmp_path / "two.md",), mode="update")
        return publish(*arguments, **keywords)

    monkeypatch.setattr(repository, "publish", slow)
    version, _ = build((tmp_path / "one.md",), mode="update")
    assert {"one.md", "two.md", "coffee.txt"} <= set(documents(repository, version))


def test_whoever_never_wins_is_told(repository, build, monkeypatch):
    def taken(*_, **__):
        raise ConflictError("taken")

    monkeypatch.setattr(repository, "publish", taken)
    with pytest.raises(ConflictError, match="5 times in a row"):
        build()


def test_bad_settings_and_sources_write_nothing(repository, build, tmp_path):
    with pytest.raises(ConfigError, match="more than the 254 tokens"):
        build(chunking=ChunkingConfig(chunk_tokens=999))
    with pytest.raises(ConfigError, match="mode=update"):
        build(delete=("a",))
    with pytest.raises(InputError, match="no such file"):
        build(("/none",))
    (tmp_path / "empty.md").write_text("---\n")
    with pytest.raises(InputError, match=r"none of 1 files could be indexed .*no text in it"):
        build((tmp_path / "empty.md",))
    assert repository.names("index") == []


def test_an_index_whose_last_document_is_deleted_is_empty(repository, build):
    build()
    version, report = build((), mode="update", delete=("hot/", "coffee.txt"))
    assert (version.version, report.documents, report.chunks) == (2, 0, 0)
    snapshot = read_snapshot(fetched_folder(repository, version))
    retriever = Retriever(snapshot, (snapshot.facts.embedding_model, snapshot.facts.embedding_fingerprint))
    assert retriever.search(Query("tea"), build.embedder.embed(["tea"])[0]).hits == []
    with pytest.raises(InputError, match="no documents"):
        build((), mode="update")


def test_an_update_does_not_bring_back_what_was_rolled_back(repository, build, tmp_path):
    aliases = Aliases(repository, "index", "drinks")
    for name in ("secret", "later", "more"):
        (tmp_path / f"{name}.md").write_text(f"This is {name}.")
    first, _ = build()
    aliases.promote("production", first.version)
    second, _ = build((tmp_path / "secret.md",), mode="update")
    build((tmp_path / "later.md",), mode="update")  # on top of what will be rolled back
    aliases.promote("production", second.version)
    aliases.rollback("production")
    time.sleep(0.01)
    after, _ = build((tmp_path / "more.md",), mode="update")
    assert set(documents(repository, after)) == {"hot/tea.md", "coffee.txt", "more.md"}
    again, _ = build((), mode="update", delete=("coffee.txt",))  # goes on from that, although nobody has promoted it
    assert set(documents(repository, again)) == {"hot/tea.md", "more.md"}
    newest, _ = build((tmp_path / "later.md",), mode="update", base="newest")
    assert set(documents(repository, newest)) == {"hot/tea.md", "more.md", "later.md"}


def test_a_file_that_comes_again_takes_the_place_of_the_file(repository, build, tmp_path):
    table = tmp_path / "prices.csv"
    table.write_text("id,text\n1,Tea costs two.\n2,Coffee costs three.\n")
    build((table,))
    table.write_text("id,text\n1,Tea costs four.\n")
    version, report = build((table,), mode="update")
    assert documents(repository, version) == {"prices.csv#1": 1}
    version, report = build((), mode="update", delete=("prices.csv",))
    assert (documents(repository, version), report.unknown) == ({}, [])


def test_both_spellings_of_a_name_are_one_document(repository, build, tmp_path):
    for form, text in (("NFC", "One."), ("NFD", "Two.")):
        folder = tmp_path / form
        folder.mkdir()
        (folder / unicodedata.normalize(form, "café.md")).write_text(text)
    build((tmp_path / "NFC",))
    version, _ = build((tmp_path / "NFD",), mode="update")
    assert documents(repository, version) == {"caf\u00e9.md": 1}


def test_what_was_not_understood_is_in_report_and_manifest(repository, build, docs):
    (docs / "dated.md").write_text("---\ntitle: Dated\ndate: 03/05/2024\n---\nSomething.\n")
    version, report = build()
    ((name, note),) = report.notes
    assert name == "dated.md"
    assert "03/05/2024" in note
    metadata = repository.manifest(version).metadata
    assert metadata["notes"] == [[name, note]]
    assert metadata["coverage"] == {"mean": 1.0, "below": {}}


def test_an_index_of_another_model_is_not_updated(repository, build, monkeypatch, docs):
    build()
    monkeypatch.setattr("rag.embedding_model.EmbeddingModel.fingerprint", "e" * 64)
    monkeypatch.setattr("rag.embedding_model.OFFLINE_FINGERPRINT", "e" * 64)
    with pytest.raises(ConfigError, match=r"'all-MiniLM-L6-v2', but drinks@1 was made with 'all-MiniLM-L6-v2'"):
        build((docs,), mode="update")


def test_the_offline_model_finds_by_meaning(repository, build, offline):
    version, _ = build()
    retriever = Retriever(read_snapshot(fetched_folder(repository, version)), (offline.name, offline.fingerprint))
    question = "How hot should a hot drink made of leaves be?"
    (hit,) = retriever.search(Query(question, 1, "dense"), offline.embed([question])[0]).hits
    assert hit.chunk.document == "hot/tea.md"


def test_a_file_that_cannot_be_read_right_now_is_not_left_out(repository, build, monkeypatch):
    build()

    def away(self, files):
        yield Skipped("hot/tea.md", "the store does not answer", fatal=True)

    monkeypatch.setattr(LocalWorkers, "read", away)
    with pytest.raises(StorageError, match=r"hot/tea\.md: the store does not answer; nothing was changed"):
        build()
    assert repository.versions("index", "drinks") == [1]
