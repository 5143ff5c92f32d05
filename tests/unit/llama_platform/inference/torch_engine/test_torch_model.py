import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from llama_platform.inference.torch_engine.architecture import read_architecture
from llama_platform.inference.torch_engine.batch import Chunk, arrange
from llama_platform.inference.torch_engine.torch_model import TorchModel, _DecodeInputs
from llama_platform.inference.torch_engine.weights import Weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=500, hidden_size=128, intermediate_size=320, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=True,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("base")
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_captured_decoding_is_decoding(folder):
    """What a graph would replay, run without one: rows that only fill the batch must change nothing."""
    model = TorchModel(read_architecture(folder), Weights(folder), torch.float32, CPU, 512, 40)
    chunks = [Chunk([7 + n], 40 * n, list(range(8 * n, 8 * n + 8))) for n in range(3)]
    with torch.inference_mode():
        for place in range(80):  # something to attend to
            model.forward(arrange([Chunk([place], place, c.pages) for c in chunks]), [])
        batch = arrange(chunks)
        inputs = _DecodeInputs.empty(8, 4, CPU)
        inputs.fill(batch, spare_page=40)
        captured = model._decode(inputs)[:3]
        assert torch.allclose(captured, model.forward(batch, []), atol=1e-5)
