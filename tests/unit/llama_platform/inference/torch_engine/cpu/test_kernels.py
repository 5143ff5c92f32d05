import os
import time

from llama_platform.inference.torch_engine.cpu import kernels, matrix_unit, row_math, tile


def test_machine_code_of_an_earlier_tile_is_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "kernels.py"))
    for module in (matrix_unit, row_math, tile):
        monkeypatch.setattr(module, "__file__", str(tmp_path / f"{module.__name__}.py"))
        (tmp_path / f"{module.__name__}.py").write_text("")
    (tmp_path / "__pycache__").mkdir()
    for name, age in (
        ("kernels._run-1.nbi", 10),
        ("kernels._run-1.1.nbc", 10),
        ("other.f-1.nbi", 10),
        ("kernels._new.nbi", -10),
    ):
        (tmp_path / "__pycache__" / name).write_text("")
        os.utime(tmp_path / "__pycache__" / name, (0, time.time() - age))
    kernels._drop_stale_cache()
    assert sorted(p.name for p in (tmp_path / "__pycache__").iterdir()) == ["kernels._new.nbi", "other.f-1.nbi"]
