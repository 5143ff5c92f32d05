"""The source tree keeps its promises: `import platform` is the standard library's, no packages below tests/."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_platform_is_the_standard_library_with_the_root_on_the_path():
    probe = "import platform, uuid, llama_platform; print(platform.__file__); print(llama_platform.__file__)"
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    standard, ours = done.stdout.splitlines()
    assert not standard.startswith(str(ROOT / "platform"))
    assert standard.endswith("/platform.py")
    assert ours == str(ROOT / "platform/llama_platform/__init__.py")


@pytest.mark.parametrize("package", ["llama_platform", "jobs", "rag", "serve_apps"])
def test_import_has_no_side_effects(package, tmp_path):
    probe = f"import {package}, logging, os; assert not logging.getLogger().handlers; print(os.listdir('.'))"
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_no_package_where_it_would_shadow_another():
    assert not (ROOT / "platform/__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []
