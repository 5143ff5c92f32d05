"""Fixtures of the tests of routing."""

import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.models.adapter_transfer import import_adapter


@pytest.fixture
def versions(repository, adapter_folder, tmp_path):
    """Three versions; the third is damaged."""
    for n in (1, 2, 3):
        folder = tmp_path / f"adapter{n}"
        folder.mkdir()
        for path in adapter_folder.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "note.txt").write_text(str(n))
        import_adapter(repository, "support", str(folder), "plain")
    third = repository.version("adapter", "support", 3)
    repository.store.write(f"models/support/objects/{third.digest}/adapter_model.safetensors", b"\x00" * 100)
    Aliases(repository, "adapter", "support").promote("production", 1)
