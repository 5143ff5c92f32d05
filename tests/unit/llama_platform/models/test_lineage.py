import pytest
import torch
from safetensors.torch import save_file

from llama_platform.artifacts.manifest import Manifest
from llama_platform.artifacts.repository import ArtifactVersion
from llama_platform.errors import InputError, IntegrityError
from llama_platform.models.base_model import BaseConfig
from llama_platform.models.base_weights import weights_identity
from llama_platform.models.lineage import check_dataset, check_lineage

VERSION = ArtifactVersion("adapter", "support", 1, "d", "")
BASE = BaseConfig(model="meta-llama/Llama-2-7b-hf", prompt_style="plain")


def check(**facts):
    check_lineage(VERSION, Manifest(kind="adapter", name="support", files={}, metadata=facts), BASE, "f" * 64)


@pytest.mark.parametrize(
    "facts",
    [
        {"prompt_fingerprint": "f" * 64, "base": "meta-llama/Llama-2-7b-hf"},
        {"prompt_fingerprint": "f" * 64, "base": "other-mirror/llama-2-7b-HF"},
        {"prompt_fingerprint": "f" * 64, "base": "/models/anything"},
        {"prompt_style": "plain", "imported": True},
    ],
)
def test_what_was_made_for_this_server_may_answer(facts):
    check(**facts)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"prompt_fingerprint": "e" * 64}, "trained with another prompt"),
        ({"prompt_fingerprint": "f" * 64, "base": "meta-llama/Llama-2-13b-hf"}, "made for the base"),
        ({"prompt_style": "llama2"}, "import it again with --prompt-style"),
        ({}, "recorded: None"),
    ],
)
def test_what_was_made_for_another_or_nobody_knows_for_what_may_not(facts, words):
    with pytest.raises(IntegrityError, match=words):
        check(**facts)


def test_a_base_of_the_same_shape_with_other_weights_is_told_from_its_folder_name(tmp_path):
    for seed, name in enumerate(("one", "other")):
        (tmp_path / name).mkdir()
        save_file({"w": torch.full((8, 8), float(seed))}, tmp_path / name / "model.safetensors")
    facts = {"prompt_fingerprint": "f", "base": "/there/one", "base_weights": weights_identity(tmp_path / "one")}
    manifest = Manifest(kind="adapter", name="support", files={}, metadata=facts)
    check_lineage(VERSION, manifest, BaseConfig(model=str(tmp_path / "one")), "f")
    with pytest.raises(IntegrityError, match="of the same shape with other weights"):
        check_lineage(VERSION, manifest, BaseConfig(model=str(tmp_path / "other")), "f")


def test_a_dataset_of_other_prompts_is_refused_with_what_to_do():
    version = ArtifactVersion("dataset", "chats", 2, "d", "")
    manifest = Manifest(kind="dataset", name="chats", files={}, metadata={"prompt_fingerprint": "e" * 64})
    check_dataset(version, manifest, "e" * 64)
    with pytest.raises(InputError, match=r"chats@2 was prepared with another prompt .*run jobs\.prepare_data again"):
        check_dataset(version, manifest, "f" * 64)
