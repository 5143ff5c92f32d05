"""TorchEngine: continuous batching over a Llama of our own, on a CPU."""
