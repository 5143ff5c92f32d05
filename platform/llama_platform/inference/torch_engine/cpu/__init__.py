"""The model on processors: compiled kernels, and the steps that call them."""
