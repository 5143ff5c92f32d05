"""The notebook runs from its first cell to its last, on the tiny base, and is kept without outputs."""

import json
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks/llama2_lora.ipynb"


def test_every_cell_runs(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    monkeypatch.setenv("NOTEBOOK_WORK", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "platform"), str(ROOT)]))
    NotebookClient(notebook, timeout=280, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    texts = [
        "".join(output.get("text", "") for output in cell.outputs if output.output_type == "stream")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    printed = "\n".join(texts)
    assert "40 steps, loss" in printed
    assert "{'production': (Target(version=1, weight=1),)}" in printed
    assert "[1] serving.md, Live adapters" in printed
    assert printed.rstrip().endswith("ended with 0")


def test_it_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [cell["outputs"] for cell in cells if cell["cell_type"] == "code" and cell["outputs"]] == []
