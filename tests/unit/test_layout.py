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


WITHOUT_A_TEST_OF_THEIR_OWN = {
    # values and settings: tested by whatever uses them
    "llama_platform/data/config.py", "llama_platform/errors.py", "llama_platform/inference/config.py",
    "llama_platform/models/lora_settings.py",
    "serve_apps/api/admin/parameters.py", "serve_apps/api/predict/schemas.py", "serve_apps/api/schemas.py",
    "serve_apps/routing/replica_status.py", "serve_apps/routing/table.py",
    # its two parts have theirs: models/lineage and artifacts/repository; test_controller.py has it refuse
    "serve_apps/routing/validation.py",
    "llama_platform/inference/torch_engine/model.py",
    # the reference of the kernels: test_loader.py runs the engine on it
    "llama_platform/inference/torch_engine/torch_model.py",
    # what Ray or DeepSpeed starts: tests/integration and tests/chaos run it
    "jobs/gpu_check/machine.py", "jobs/gpu_check/parts.py", "jobs/gpu_check/plain_peft.py", "jobs/gpu_check/shapes.py",
    "llama_platform/models/random_base.py", "jobs/batch_predict.py", "jobs/evaluate.py", "jobs/finetune.py", "jobs/merge_adapter.py",
    "jobs/prepare_data.py", "llama_platform/batch/worker.py", "llama_platform/training/run/worker.py",
    "llama_platform/training/zero/engine.py", "rag/indexing/workers.py", "serve_apps/ingress/deployment.py",
    "serve_apps/llama/deployment.py", "serve_apps/llama/metrics.py",
    "serve_apps/retriever/deployment.py",
    # its own suite: tests/vllm
    "llama_platform/inference/vllm_engine.py", "jobs/gpu_check/vllm_load.py",
    # makes the tiny base, in 40 minutes; what it made is tested
    "jobs/shipped/tiny_base.py", "llama_platform/models/tiny/build.py", "llama_platform/models/tiny/corpus.py",
    # silences libraries; the tests of the demo and of the jobs read what is printed
    "llama_platform/cli/quiet.py",
}  # fmt: skip


def test_every_module_has_a_test_of_its_name():
    missing = set()
    for root, name in (("platform/", "llama_platform"), ("", "jobs"), ("", "rag"), ("", "serve_apps")):
        for path in (ROOT / f"{root}{name}").rglob("*.py"):
            inside = path.relative_to(ROOT / f"{root}{name}")
            test = ROOT / "tests/unit" / name / inside.parent / f"test_{path.name}"
            if not path.name.startswith("__") and not test.exists():
                missing.add(f"{name}/{inside}")
    assert missing == WITHOUT_A_TEST_OF_THEIR_OWN
