import pytest

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.errors import ConfigError, InputError
from rag.build import IndexConfig, build_index
from rag.embedding import EmbeddingConfig, SentenceTransformerEmbedder
from rag.retriever import Retriever
from rag.snapshot import read_snapshot


@pytest.fixture
def repository(tmp_path):
    return repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "tea.md").write_text("# Tea\n\nGreen tea needs water of eighty degrees.\n")
    (folder / "coffee.txt").write_text("Coffee needs boiling water.")
    (folder / "image.png").write_bytes(b"\x89PNG")
    return str(folder)


def test_an_index_is_committed_with_its_documents(repository, docs, embedder):
    progress = []
    config = IndexConfig(name="drinks", sources=(docs,), chunk_tokens=20)
    version, found = build_index(repository, config, embedder, lambda *p: progress.append(p))
    metadata = repository.manifest(version).metadata
    assert set(metadata["documents"]) == {"tea.md", "coffee.txt"}
    assert metadata["skipped"] == {"image.png": "'.png' suffix is not Markdown or text"}
    assert progress[-1] == (2, 2)
    assert len(found.skipped) == 1
    again, _ = build_index(repository, config, embedder, lambda *p: None)
    assert again == version


def test_bad_settings_and_sources_write_nothing(repository, docs, embedder, tmp_path):
    with pytest.raises(ConfigError, match="more than the 50 tokens"):
        build_index(repository, IndexConfig(sources=(docs,), chunk_tokens=99), embedder, lambda *p: None)
    with pytest.raises(InputError, match="no such file"):
        build_index(repository, IndexConfig(sources=("/none",), chunk_tokens=20), embedder, lambda *p: None)
    empty = tmp_path / "empty.md"
    empty.write_text("# Title\n\n## Sub\n")
    with pytest.raises(InputError, match="no text below"):
        build_index(repository, IndexConfig(sources=(str(empty),), chunk_tokens=20), embedder, lambda *p: None)
    assert repository.names("index") == []


def test_the_offline_model_finds_by_meaning(repository, docs):
    embedder = SentenceTransformerEmbedder(EmbeddingConfig())
    version, _ = build_index(repository, IndexConfig(sources=(docs,)), embedder, lambda *p: None)
    retriever = Retriever(read_snapshot(repository.fetch(version)), embedder)
    assert retriever.search("How hot should a hot drink made of leaves be?", 1)[0].chunk.document == "tea.md"
    assert embedder.embed(["a"]).shape == (1, 384)


def test_an_unknown_embedding_model_is_named():
    with pytest.raises(InputError, match="no-such-model"):
        SentenceTransformerEmbedder(EmbeddingConfig(model="/no-such-model"))
