"""`ray job submit` from the repository root, on a cluster with token authentication."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import jobs.evaluate
import jobs.merge_adapter
from artifact_folders import fetched_folder
from llama_platform.models.tiny import WEIGHTS_FOLDER
from ray_nodes import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]
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
    with safe_open(fetched_folder(repository, version) / "adapter_model.safetensors", framework="pt") as tensors:
        assert len(list(tensors.keys())) == 2 * 7 * 4


def test_checkpoints_and_metrics_are_kept_with_the_run(trained, repository):
    assert repository.versions("checkpoint", "it-1") == [1, 2]
    assert repository.manifest(repository.latest("checkpoint", "it-1")).metadata["step"] == 6
    lines = repository.store.read("runs/it-1/metrics.jsonl").content.decode().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert json.loads(repository.store.read("runs/it-1/status.json").content)["adapter"] == "assistant@1"
    assert repository.store.read("runs/it-1/loss.png").content.startswith(b"\x89PNG")
    assert b"<h1>Run it-1</h1>" in repository.store.read("runs/it-1/report.html").content
    assert any("tfevents" in key for key in repository.store.list_keys("runs/it-1/tensorboard/"))
    assert b"learning_rate: 0.003" in repository.store.read("runs/it-1/config.yaml").content


def test_the_check_of_a_machine_runs_without_a_gpu(submit, tmp_path):
    report = tmp_path / "check.json"
    # In float32: a processor without bfloat16 products would multiply for minutes.
    small = {"training.use_gpu": "false", "training.cpus_per_worker": 1, "training.precision": "float32"}
    done = submit("python", "-m", "jobs.gpu_check", "--tiny", "--report", str(report), **small)
    assert done.returncode == 0, done.stdout
    found = json.loads(report.read_text())
    assert set(found) == {"machine", "rates", "training", "training_plain", "vs_plain", "vllm"}
    assert found["vllm"].startswith("left out: vllm is not installed")
    assert "<h2>training</h2>" in report.with_suffix(".html").read_text()
    done = submit("python", "-m", "jobs.gpu_check", "--tiny", "--only", "vllm", **small)
    assert "vllm is not installed here" in done.stdout
    assert found["rates"]["device"] == "CPU"
    losses = found["training"]["losses"]
    assert losses[-1] < losses[0]


def test_the_dashboard_knows_the_run(trained, cluster):
    jobs = cluster.get("/api/jobs/").json()
    assert any(job["status"] == "SUCCEEDED" and "jobs.finetune" in job["entrypoint"] for job in jobs)
    runs = cluster.get("/api/train/v2/runs/v1").json()["train_runs"]
    (run,) = [run for run in runs if run["name"] == "it-1"]
    assert run["status"] == "FINISHED"


def test_what_a_repetition_cannot_mend_is_not_repeated(trained, submit, cluster, tmp_path):
    broken = shutil.copytree(WEIGHTS_FOLDER, tmp_path / "base")
    tensors = load_file(broken / "model.safetensors")
    tensors["model.norm.weight"][0] = float("nan")
    save_file(tensors, broken / "model.safetensors", {"format": "pt"})
    settings = {"base.model": str(broken), "training.run_id": "it-nan"}
    done = submit("python", "-m", "jobs.finetune", *CONFIG, **settings)
    assert done.returncode != 0
    assert "gradients are infinite or not a number" in done.stdout
    runs = cluster.get("/api/train/v2/runs/v1").json()["train_runs"]
    (run,) = [run for run in runs if run["name"] == "it-nan"]
    # One that failed, and one that was told so and ended at once.
    assert [attempt["status"] for attempt in run["attempts"]] == ["ERRORED", "FINISHED"]


def test_wrong_input_ends_with_its_message_and_writes_nothing(submit, repository, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('[\n{"input": "a", "output": "b"},\n{"input": }\n]')
    sources = f"[{broken}]"
    done = submit("python", "-m", "jobs.prepare_data", *CONFIG, **{"data.sources": sources, "data.name": "broken"})
    assert done.returncode != 0
    assert f"{broken}:3: not valid JSON" in done.stdout
    assert repository.versions("dataset", "broken") == []


def test_the_adapter_opens_in_plain_peft_with_the_logits_of_the_platform(trained, repository, tiny_config):
    from peft import PeftModel

    from llama_platform.models.adapter import AdapterSet
    from llama_platform.models.base_model import load_base_model

    folder = fetched_folder(repository, repository.latest("adapter", "assistant"))
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "training_args.json",
        "README.md",
    }
    ids = torch.tensor([[1, 400, 500, 600]])
    plain = PeftModel.from_pretrained(load_base_model(tiny_config), folder).eval()
    ours = AdapterSet(load_base_model(tiny_config).eval())
    ours.load("x", folder)
    with torch.no_grad(), ours.active("x") as model:
        assert torch.equal(plain(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_running_job_can_be_watched_and_stopped_and_goes_on(trained, cluster, start, submit, repository):
    settings = {"training.epochs": 1000, "training.run_id": "it-2", "training.checkpoint_every": 1000}
    job = start("python", "-m", "jobs.finetune", *CONFIG, **settings)
    shown = ("loss", "tokens_per_s", "step")
    wait_for(lambda: all(cluster.gauge(f"ray_llama_training_{name}", run="it-2") for name in shown), 240)
    wait_for(lambda: "runs/it-2/metrics.jsonl" in repository.store.list_keys("runs/it-2/"), 240)
    assert json.loads(repository.store.read("runs/it-2/status.json").content)["status"] == "running"
    assert cluster.run("ray", "job", "stop", job).returncode == 0
    wait_for(lambda: b'"stopped"' in repository.store.read("runs/it-2/status.json").content, 240)
    step = json.loads(repository.store.read("runs/it-2/status.json").content)["step"]
    assert repository.manifest(repository.latest("checkpoint", "it-2")).metadata["step"] == step
    done = submit("python", "-m", "jobs.finetune", *CONFIG, **settings | {"training.max_steps": step + 2})
    assert done.returncode == 0, done.stdout[-3000:]
    steps = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("step ")]
    assert steps == [f"{step + 1}/{step + 2}", f"{step + 2}/{step + 2}"]


def test_large_sources_are_examined_by_ray_data_with_the_same_result(trained, submit, repository):
    here = repository.manifest(repository.latest("dataset", "chats"))
    settings = {"data.max_chats": 60, "data.ray_above_mib": 0, "data.name": "parallel"}
    done = submit("python", "-m", "jobs.prepare_data", *CONFIG, **settings)
    assert done.returncode == 0, done.stdout[-3000:]
    there = repository.manifest(repository.latest("dataset", "parallel"))
    for name in ("train.parquet", "eval.parquet"):
        assert there.files[name].sha256 == here.files[name].sha256


def test_evaluation_compares_and_gates(trained, overrides, repository, capsys, nobodys_gpu):
    settings = overrides(**{"evaluation.answered_chats": 2, "evaluation.max_new_tokens": 8})
    evaluate = [*CONFIG, *settings, "--set", "evaluation.adapter=assistant@1"]
    assert jobs.evaluate.main([*evaluate, "--fail-if", "perplexity > 1e9", "--promote", "tested"]) == 0
    printed = capsys.readouterr().out
    assert "token_accuracy" in printed
    assert "assistant@tested → version 1" in printed
    assert jobs.evaluate.main([*evaluate, "--fail-if", "perplexity > 1", "--promote", "never"]) == 1
    assert "failed: perplexity > 1" in capsys.readouterr().err
    document = json.loads(repository.store.read("models/assistant/aliases.json").content)
    assert "never" not in document["aliases"]


def test_merging_writes_a_model_and_says_how_near_it_is(trained, overrides, tmp_path, capsys, nobodys_gpu):
    arguments = [*CONFIG, *overrides(), "--adapter", "assistant@1", "--output", str(tmp_path / "merged")]
    assert jobs.merge_adapter.main(arguments) == 0
    assert "same top token 100.0 %" in capsys.readouterr().out
    assert (tmp_path / "merged/model.safetensors").exists()
    assert jobs.merge_adapter.main(arguments) == 2
    assert "not empty" in capsys.readouterr().err
