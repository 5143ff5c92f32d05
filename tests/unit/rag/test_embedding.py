import numpy as np
import pytest

from llama_platform.errors import InputError
from rag.embedding import SentenceTransformerEmbedder, parts_of, token_counter
from rag.embedding_model import OFFLINE_MODEL, EmbeddingConfig, EmbeddingModel

TEXTS = ["Tea.", "Green tea needs water of eighty degrees.", "word " * 400, "Install the operator with Helm."]


@pytest.fixture(scope="module")
def reference():
    """What sentence-transformers itself says."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(EmbeddingModel(OFFLINE_MODEL).folder))
    return model.encode(TEXTS, normalize_embeddings=True)


@pytest.mark.parametrize(("dtype", "least"), [("float32", 0.99999), ("bfloat16", 0.999)])
def test_vectors_are_those_of_sentence_transformers(reference, dtype, least):
    embedder = SentenceTransformerEmbedder(EmbeddingConfig(dtype=dtype, batch_tokens=300))
    vectors = embedder.embed(TEXTS)
    assert (vectors.dtype, vectors.shape) == (np.float32, (4, 384))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert (vectors * reference).sum(axis=1).min() > least


def test_of_nothing_there_are_no_vectors():
    assert SentenceTransformerEmbedder(EmbeddingConfig()).embed([]).shape == (0, 384)


def test_a_model_tells_of_itself_without_being_loaded():
    model = EmbeddingModel(OFFLINE_MODEL)
    assert model.max_tokens == 254
    assert len(model.fingerprint) == 64
    assert model.tokenizer.startswith("{")


def test_other_weights_have_another_fingerprint(tmp_path):
    import shutil

    shutil.copytree(EmbeddingModel(OFFLINE_MODEL).folder, tmp_path / "model")
    copied = EmbeddingModel(str(tmp_path / "model"))
    assert copied.fingerprint == EmbeddingModel(OFFLINE_MODEL).fingerprint
    weights = tmp_path / "model/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert EmbeddingModel(str(tmp_path / "model")).fingerprint != copied.fingerprint


@pytest.mark.parametrize("name", ["/no-such-model", "nobody/no-such-model"])
def test_an_unknown_model_is_named(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="no-such-model"):
        EmbeddingModel(name)


def test_weights_that_could_run_code_are_not_loaded(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="no safetensors"):
        EmbeddingModel(str(tmp_path))


def test_a_long_question_is_divided_and_its_end_is_whole():
    counter = token_counter(EmbeddingModel(OFFLINE_MODEL).tokenizer)
    text = "pasted words before it " * 100 + "who may bring a dog?"
    parts = parts_of(text, counter, 64)
    assert "".join(parts) == text[-len("".join(parts)) :]
    assert len(parts) == 8
    assert all(len(counter.encode(part, add_special_tokens=False).ids) <= 64 for part in parts)
    assert parts[-1].endswith("who may bring a dog?")
    assert parts_of("short", counter, 64) == ["short"]
    assert len(parts_of("word " * 5000, counter, 64)) == 8
