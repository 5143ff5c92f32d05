"""A run of training on Ray: trainer, workers, checkpoints, metrics and report."""
