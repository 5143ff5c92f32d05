import re

import pytest
import yaml

from llama_platform.models.model_card import write_model_card

FACTS = {
    "base": "tiny", "base_revision": None, "prompt_style": "plain", "prompt_fingerprint": "f" * 64, "run_id": "r",
    "dataset": {"name": "chats", "version": 1, "digest": "d" * 64},
    "metrics": {"step": 1, "tokens": 2, "global_batch_size": 8, "loss_first": 2.0, "loss_last": 1.0, "eval_loss": None},
    "settings": {
        "lora": {"r": 8, "alpha": 16, "dropout": 0.1, "targets": "all-linear", "rslora": False},
        "training": {"learning_rate": 1e-3, "precision": "float32"},
    },
}  # fmt: skip


@pytest.fixture
def folder(adapter_folder, tiny_template, tmp_path):
    for path in adapter_folder.iterdir():
        if path.name != "README.md":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tiny_template.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_the_cards_snippet_answers(folder, capsys):
    write_model_card(folder, "support", FACTS)
    card = (folder / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    exec(snippet.replace("path/to/this/folder", str(folder)), {})
    assert capsys.readouterr().out.startswith("### Human: Who are you?\n### Assistant:")


def test_a_base_of_the_hub_is_named_as_there(folder):
    write_model_card(folder, "support", FACTS | {"base": "meta-llama/Llama-2-7b-hf", "prompt_style": "llama2"})
    card = (folder / "README.md").read_text()
    assert 'base = "meta-llama/Llama-2-7b-hf"' in card
    assert "[INST] Who are you? [/INST]" in card


def test_the_model_card_has_what_the_hub_reads(tmp_path):
    facts = {
        "base": "meta-llama/Llama-2-7b-hf",
        "base_revision": None,
        "dataset": {"name": "chats", "version": 3, "digest": "ab" * 32},
        "run_id": "run-1",
        "prompt_style": "plain",
        "prompt_fingerprint": "cd" * 32,
        "metrics": {"step": 5, "tokens": 1234, "global_batch_size": 16, "loss_first": 2.0, "loss_last": 1.0, "eval_loss": None},
        "settings": {
            "lora": {"r": 64, "alpha": 16, "dropout": 0.1, "targets": ["q_proj", "v_proj"], "rslora": False},
            "training": {"learning_rate": 2e-4, "precision": "bfloat16"},
        },
    }  # fmt: skip
    write_model_card(tmp_path, "support", facts)
    text = (tmp_path / "README.md").read_text()
    _, header, body = text.split("---\n", 2)
    assert yaml.safe_load(header)["base_model"] == "meta-llama/Llama-2-7b-hf"
    assert "# support" in body
    assert "chats@3" in body
    assert "q_proj, v_proj" in body
    assert "### Human: Who are you?" in body
