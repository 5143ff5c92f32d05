import torch

from llama_platform.inference.torch_engine.architecture import read_architecture
from llama_platform.inference.torch_engine.batch import Chunk, arrange
from llama_platform.inference.torch_engine.torch_model import TorchModel, _DecodeInputs
from llama_platform.inference.torch_engine.weights import Weights

CPU = torch.device("cpu")


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
