"""The source tree keeps its promises: `import platform` is the standard library's, no packages below tests/."""

import subprocess
import sys
from pathlib import Path

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


IMPORT_ALL = """
import importlib, logging, os, pkgutil, sys, threading
count = 0
for name in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
        importlib.import_module(module.name)
        count += 1
print(count, logging.getLogger().handlers, os.listdir("."), threading.active_count(), {"vllm", "deepspeed"} & {*sys.modules})
"""


def test_importing_every_module_writes_starts_and_configures_nothing(tmp_path):
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'platform'}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", IMPORT_ALL, "llama_platform", "jobs", "rag", "serve_apps"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    count, seen = done.stdout.strip().split(" ", 1)
    assert int(count) > 200
    assert seen == "[] [] 1 set()"


def test_no_package_where_it_would_shadow_another():
    assert not (ROOT / "platform/__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_every_group_of_keys_of_any_command_is_known():
    from jobs.evaluate_retrieval import RetrievalEvaluation
    from llama_platform.batch.plan import BatchConfig
    from llama_platform.config import SECTIONS, Config
    from llama_platform.training.config import FinetuneConfig
    from rag.indexing.build import IndexConfig
    from serve_apps.config import AppConfig

    commands = (FinetuneConfig, IndexConfig, BatchConfig, RetrievalEvaluation, AppConfig)
    groups = {
        name
        for command in commands
        for name, field in command.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Config)
    }
    assert groups == SECTIONS
