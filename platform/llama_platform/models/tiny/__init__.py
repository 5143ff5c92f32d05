"""The tiny base that comes with the project: its weights, and how they are made again."""

from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).parent / "weights"
"""A folder that transformers opens. It lies here so that naming it does not import torch."""
