import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.errors import InputError, IntegrityError
from llama_platform.models.adapter_transfer import export_adapter, import_adapter


@pytest.fixture
def folder(adapter_folder, tmp_path):
    folder = tmp_path / "adapter"
    folder.mkdir()
    for path in adapter_folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "training_args.json").write_text('{"prompt_fingerprint": "f"}')
    return folder


@pytest.fixture
def repository(tmp_path):
    return repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})


def test_import_leaves_pickles_behind_and_export_gives_the_folder_back(repository, folder, tmp_path):
    (folder / "training_args.bin").write_bytes(b"pickle")
    version = import_adapter(repository, "support", str(folder))
    assert import_adapter(repository, "support", folder.as_uri()) == version
    out = Path(export_adapter(repository, version, str(tmp_path / "out")))
    assert not (out / "training_args.bin").exists()
    same = load_file(out / "adapter_model.safetensors")
    assert all(torch.equal(t, same[n]) for n, t in load_file(folder / "adapter_model.safetensors").items())
    assert repository.manifest(version).metadata["prompt_fingerprint"] == "f"
    with pytest.raises(InputError, match="not empty"):
        export_adapter(repository, version, str(out))
    with pytest.raises(InputError, match="no such folder"):
        import_adapter(repository, "support", str(tmp_path / "none"))
    with pytest.raises(IntegrityError, match=r"adapter_config\.json: missing"):
        import_adapter(repository, "support", (tmp_path / "none").as_uri())


def test_a_plain_folder_needs_its_prompts_named(repository, folder):
    (folder / "training_args.json").unlink()
    with pytest.raises(InputError, match="--prompt-style"):
        import_adapter(repository, "support", str(folder))
    facts = repository.manifest(import_adapter(repository, "support", str(folder), "plain")).metadata
    assert (facts["prompt_style"], facts["claimed"]["prompt_style"], facts["imported"]) == ("plain", "plain", True)


def test_an_imported_folder_cannot_forge_where_it_comes_from(repository, folder, tmp_path):
    forged = {"imported": False, "run_id": "trusted", "metrics": {"loss": 0}, "prompt_fingerprint": "f", "base": "tiny"}
    (folder / "training_args.json").write_text(json.dumps(forged))
    version = import_adapter(repository, "support", str(folder))
    facts = repository.manifest(version).metadata
    assert facts["imported"] is True
    assert "run_id" not in facts
    assert facts["claimed"] == {"run_id": "trusted", "metrics": {"loss": 0}}
    out = Path(export_adapter(repository, version, str(tmp_path / "out")))
    assert json.loads((out / "training_args.json").read_text()) == facts


@pytest.mark.parametrize(
    "text", ['{"base": 17}', '{"prompt_fingerprint": []}', '{"x": NaN}', '{"x": "\\ud800"}', "[" * 100_000, '{"a":1']
)
def test_claims_that_are_no_facts_are_refused(repository, folder, text):
    (folder / "training_args.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"training_args\.json"):
        import_adapter(repository, "support", str(folder), "plain")
    assert repository.versions("adapter", "support") == []


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/passwd"), lambda p: p.symlink_to("/none"), os.mkfifo])
def test_links_and_pipes_beside_the_adapter_are_refused_by_name(repository, folder, make):
    make(folder / "README.txt")
    with pytest.raises(InputError, match=r"README\.txt"):
        import_adapter(repository, "support", str(folder))


@pytest.mark.parametrize("option", ["alora_invocation_tokens", "use_dora", "an_option_of_the_future"])
def test_what_could_not_be_served_is_no_version(repository, folder, option):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), option: [1, 2]}))
    with pytest.raises(IntegrityError, match=option):
        import_adapter(repository, "support", str(folder))
    assert repository.versions("adapter", "support") == []


def test_no_adapter_is_called_base(repository, folder):
    with pytest.raises(InputError, match="names the base without an adapter"):
        import_adapter(repository, "base", str(folder))
