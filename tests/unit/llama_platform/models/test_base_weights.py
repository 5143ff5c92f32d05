import pytest
import torch
from safetensors.torch import save_file

from llama_platform.errors import InputError
from llama_platform.models.base_weights import are_different, weights_identity


def tensors(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(40, 30, generator=generator).to(dtype) for name in ("a", "b", "c")}


def identity(folder, parts):
    folder.mkdir()
    for number, part in enumerate(parts):
        save_file(part, folder / f"model-{number}.safetensors")
    return weights_identity(folder)


def test_the_same_weights_are_the_same_however_they_are_divided(tmp_path):
    whole = tensors(1)
    one = identity(tmp_path / "one", [whole])
    several = identity(tmp_path / "several", [{"c": whole["c"]}, {"a": whole["a"], "b": whole["b"]}])
    assert one == several
    assert not are_different(one, several)


def test_other_weights_of_the_same_shape_are_different(tmp_path):
    assert are_different(identity(tmp_path / "one", [tensors(1)]), identity(tmp_path / "other", [tensors(2)]))


def test_of_another_precision_nothing_is_said(tmp_path):
    one, other = (
        identity(tmp_path / "one", [tensors(1)]),
        identity(tmp_path / "other", [tensors(2, torch.bfloat16)]),
    )
    assert one != other
    assert not are_different(one, other)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 40, (4).to_bytes(8, "little") + b"nope", b"\x02" + b"\0" * 7 + b"{}"[:1]]
)
def test_what_is_no_safetensors_is_refused_with_its_name(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors: cannot be read as safetensors"):
        weights_identity(tmp_path)
