"""The engine's models over a folder of weights."""

from llama_platform.inference.torch_engine.architecture import read_architecture
from llama_platform.inference.torch_engine.cpu.model import CpuModel
from llama_platform.models.weight_files import Weights


def on_kernels(folder, kind="f32", threads=2, int8=False, products="auto"):
    shape = read_architecture(folder)
    return CpuModel(shape, Weights(folder), kind, threads, 512, 40, 300, 16, int8, products)
