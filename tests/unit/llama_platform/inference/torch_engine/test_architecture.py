import json

import pytest
import torch

from llama_platform.errors import InputError
from llama_platform.inference.torch_engine.architecture import read_architecture
from llama_platform.inference.torch_engine.torch_model import TorchModel
from llama_platform.models.weight_files import Weights


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "mistral"}, "model_type is 'mistral'"),
        ({"attention_bias": True}, "attention_bias is True"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}}, "'dynamic'"),
        ({"vocab_size": 600}, r"has shape \(500, 128\), config.json says \(600, 128\)"),
        ({"num_hidden_layers": 4}, "model.layers.3.*is missing"),
        ({"head_dim": 12}, "shape"),
    ],
)
def test_what_is_not_supported_is_named(folder, tmp_path, change, words):
    config = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(InputError, match=words):
        TorchModel(read_architecture(tmp_path), Weights(tmp_path), torch.float32, 64, 4)
