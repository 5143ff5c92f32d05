import shutil
from pathlib import Path

import pytest

from llama_platform.errors import InputError
from llama_platform.models import stored_base
from llama_platform.models.base_model import BaseConfig, base_folder, load_base_model, load_template
from llama_platform.models.stored_base import fetch_base, folder_digest
from llama_platform.models.tiny import WEIGHTS_FOLDER
from llama_platform.storage.open_store import open_store


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A node of its own."""
    fetch_base.cache_clear()
    monkeypatch.setenv("HOME", str(tmp_path / "node"))
    yield tmp_path / "node/.cache/llama-platform/bases"
    fetch_base.cache_clear()


@pytest.fixture(params=["file", "s3"])
def stored(request, tmp_path):
    """URI of a folder in a store that holds the tiny base, and files that are none of a base."""
    root = (tmp_path / "store").as_uri() if request.param == "file" else request.getfixturevalue("s3_uri")
    store = open_store(root)
    for path in Path(WEIGHTS_FOLDER).iterdir():
        if path.is_file():
            store.write(f"bases/tiny/{path.name}", path.read_bytes())
    store.write("bases/tiny/pytorch_model.bin", b"pickle")
    store.write("bases/tiny/original/config.json", b"{}")
    return f"{root}/bases/tiny"


def test_a_base_is_copied_once_and_used_as_a_folder(stored, cache, monkeypatch):
    config = BaseConfig(model=stored, prompt_style="plain", dtype="float32", sha256=folder_digest(Path(WEIGHTS_FOLDER)))
    assert load_template(config).tokenizer.vocab_size > 0
    folder = base_folder(config)
    assert folder.parent == cache
    assert not list(folder.glob("*.bin"))
    assert (folder / "config.json").read_bytes() == (Path(WEIGHTS_FOLDER) / "config.json").read_bytes()
    fetch_base.cache_clear()
    monkeypatch.setattr(stored_base, "find_objects", lambda uri: pytest.fail("asked the store again"))
    assert base_folder(config) == folder
    assert load_base_model(config).config.model_type == "llama"


def test_another_base_than_the_digest_says_is_refused(stored):
    with pytest.raises(InputError, match=r"base\.sha256"):
        BaseConfig(model=stored, sha256="0" * 64).location()


def test_a_base_that_was_replaced_in_the_store_is_copied_anew(stored, tmp_path):
    first = fetch_base(stored)
    changed = tmp_path / "changed"
    shutil.copytree(first, changed)
    (changed / "generation_config.json").write_text('{"eos_token_id": 2}')
    root, _, name = stored.rpartition("/bases/")
    open_store(root).write(f"bases/{name}/generation_config.json", b'{"eos_token_id": 2}')
    assert folder_digest(fetch_base(stored, folder_digest(changed))) == folder_digest(changed)


def test_a_copy_that_was_interrupted_is_none(stored, cache, monkeypatch):
    def fail(folder):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stored_base, "folder_digest", fail)
        with pytest.raises(KeyboardInterrupt):
            fetch_base(stored)
    assert not [path for path in cache.iterdir() if path.is_dir()]
    assert (fetch_base(stored) / "config.json").is_file()


@pytest.mark.parametrize("name", ["none", ""])
def test_a_place_without_a_base_is_named(stored, name):
    with pytest.raises(InputError, match=r"config\.json"):
        fetch_base(stored.rpartition("/")[0] + f"/{name}")
