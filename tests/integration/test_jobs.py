"""`ray job submit` from the repository root, on a cluster with token authentication."""

import json

import pytest
from safetensors import safe_open

pytestmark = pytest.mark.integration
CONFIG = ("--config", "jobs/configs/tiny_lora_cpu.yaml")


def test_the_cluster_refuses_other_tokens(cluster):
    assert cluster.get("/api/jobs/", token="0" * 32).status_code in (401, 403)
    assert cluster.get("/api/jobs/").status_code == 200


def test_the_overlay_is_what_driver_and_tasks_import(submit):
    probe = (
        "import ray, platform, llama_platform as p; ray.init(logging_level='ERROR');"
        "print('FILES', platform.__file__, p.__file__,"
        " *ray.get(ray.remote(lambda: [__import__(n).__file__ for n in ('platform', 'llama_platform')]).remote()))"
    )
    done = submit("python", "-c", probe)
    assert done.returncode == 0, done.stdout[-2000:]
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FILES")]
    standard, ours, standard_in_task, ours_in_task = line.split()[1:]
    assert standard.endswith("/platform.py")
    assert standard_in_task == standard
    assert "runtime_resources/py_modules_files" in ours
    assert ours_in_task == ours


def test_finetuning_publishes_an_adapter_with_its_lineage(trained, repository):
    prepared, finetuned = trained
    assert "60 chats" in prepared.stdout
    assert "step 6/6  loss" in finetuned.stdout
    version = repository.latest("adapter", "assistant")
    facts = repository.manifest(version).metadata
    assert facts["dataset"]["digest"] == repository.latest("dataset", "chats").digest
    assert facts["run_id"] == "it-1"
    assert facts["metrics"]["loss_last"] < facts["metrics"]["loss_first"]
    with safe_open(repository.fetch(version) / "adapter_model.safetensors", framework="pt") as tensors:
        assert len(list(tensors.keys())) == 2 * 7 * 4


def test_checkpoints_and_metrics_are_kept_with_the_run(trained, repository):
    assert repository.versions("checkpoint", "it-1") == [1, 2]
    assert repository.manifest(repository.latest("checkpoint", "it-1")).metadata == {"step": 6}
    lines = repository.store.read("runs/it-1/metrics.jsonl").content.decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert b"learning_rate: 0.003" in repository.store.read("runs/it-1/config.yaml").content


def test_the_dashboard_knows_the_run(trained, cluster):
    jobs = cluster.get("/api/jobs/").json()
    assert any(job["status"] == "SUCCEEDED" and "jobs.finetune" in job["entrypoint"] for job in jobs)
    runs = cluster.get("/api/train/v2/runs/v1").json()["train_runs"]
    (run,) = [run for run in runs if run["name"] == "it-1"]
    assert run["status"] == "FINISHED"


def test_a_run_that_is_submitted_again_continues_after_its_checkpoint(trained, submit, repository):
    settings = {"training.max_steps": 8, "training.run_id": "it-1", "training.checkpoint_every": 100}
    done = submit("python", "-m", "jobs.finetune", *CONFIG, **settings)
    assert done.returncode == 0, done.stdout[-3000:]
    steps = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("step ")]
    assert steps == ["7/8", "8/8"]
    assert repository.manifest(repository.latest("adapter", "assistant")).metadata["metrics"]["step"] == 8


def test_a_run_of_something_else_is_not_continued(trained, submit):
    settings = {"training.max_steps": 9, "training.run_id": "it-1", "lora.r": 8}
    done = submit("python", "-m", "jobs.finetune", *CONFIG, **settings, **{"training.max_failures": 0})
    assert done.returncode != 0
    assert "its checkpoints are of another dataset version, base or lora" in done.stdout


def test_wrong_input_ends_with_its_message_and_writes_nothing(submit, repository, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('[\n{"input": "a", "output": "b"},\n{"input": }\n]')
    sources = f"[{broken}]"
    done = submit("python", "-m", "jobs.prepare_data", *CONFIG, **{"data.sources": sources, "data.name": "broken"})
    assert done.returncode != 0
    assert f"{broken}:3: not valid JSON" in done.stdout
    assert repository.versions("dataset", "broken") == []
