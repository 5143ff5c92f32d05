"""A machine needs no more than the packages of its role: its programs are imported with nothing else beside them."""

import subprocess
import sys

import pytest

from roles import ROOT, closure, install

PROGRAMS = {
    (): "llama_platform.cli.main llama_platform.artifacts.repository llama_platform.storage.s3 jobs.gpu_check.__main__",
    ("data",): "jobs.prepare_data llama_platform.data.prepare llama_platform.data.report.page",
    ("train",): "jobs.finetune jobs.evaluate jobs.merge_adapter llama_platform.training.run.worker",
    ("serve",): (
        "serve_apps.app serve_apps.ingress.deployment serve_apps.llama.deployment serve_apps.routing.controller "
        "llama_platform.inference.torch_engine.cpu.model jobs.batch_predict llama_platform.batch.worker"
    ),
    ("rag",): "jobs.build_index jobs.erase_document jobs.evaluate_retrieval rag.search.retriever rag.search.inline",
    ("rag", "serve"): "serve_apps.retriever.deployment serve_apps.api.rag.retrieval",
}
IMPORT = """
import importlib, sys
for program in sys.argv[1:]:
    importlib.import_module(program)
"""


@pytest.mark.parametrize("extras", list(PROGRAMS), ids=lambda extras: "+".join(extras) or "core")
def test_the_programs_of_a_role_need_only_its_packages(tmp_path, extras):
    install(tmp_path, *extras)
    done = subprocess.run(
        [sys.executable, "-S", "-c", IMPORT, *PROGRAMS[extras].split()], capture_output=True, text=True,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}:{ROOT / 'platform'}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_serving_machine_does_not_train_and_a_training_machine_does_not_search():
    assert not {"deepspeed", "peft", "matplotlib", "phonenumbers", "datasets"} & closure("serve")
    assert not {"faiss-cpu", "sentence-transformers", "fastapi-offline", "phonenumbers"} & closure("train")
    assert {"faiss-cpu", "deepspeed", "fastapi", "phonenumbers"} <= closure("data", "rag", "serve", "train")
