import pytest

from llama_platform.errors import InputError
from llama_platform.models.weight_files import Weights


def test_pickled_weights_are_not_opened(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="pickled weights are not opened"):
        Weights(tmp_path)
