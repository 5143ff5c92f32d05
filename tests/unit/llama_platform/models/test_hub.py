import huggingface_hub
import pytest

from llama_platform.errors import InputError
from llama_platform.models.hub import download


def test_what_cannot_be_fetched_names_the_setting_and_what_to_do(monkeypatch):
    def fail(*args, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no network\nand more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(InputError, match=r"base\.model 'a/b': neither a folder here.*no network\nCheck.*HF_TOKEN"):
        download("base.model", "a/b", ["*.json"])


def test_a_name_that_is_none_is_refused_without_the_hub():
    with pytest.raises(InputError, match=r"embedding\.model 'a b!'"):
        download("embedding.model", "a b!", ["*.json"])


def test_patterns_and_revision_reach_the_hub(monkeypatch, tmp_path):
    seen = {}

    def fetch(model, **options):
        seen.update(options, model=model)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    assert download("base.model", "a/b", ["*.json"], "abc") == tmp_path
    assert seen == {"model": "a/b", "revision": "abc", "allow_patterns": ["*.json"]}
