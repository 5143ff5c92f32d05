"""What is refused before any worker starts."""

import json

import pytest

from datasets_of_sources import publish_sources
from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.config import load_config
from llama_platform.data.config import DataConfig
from llama_platform.errors import ConflictError, InputError, NotFoundError
from llama_platform.storage import lease
from llama_platform.training.config import FinetuneConfig
from llama_platform.training.run import trainer
from llama_platform.training.run.checkpoint import Checkpoint, save_checkpoint
from llama_platform.training.run.trainer import finetune


@pytest.fixture
def start(tmp_path, tiny_config, monkeypatch):
    """Start a run with these settings; it ends before Ray is needed, or fails for want of it."""
    import ray

    def no_ray(*_, **__):
        raise AssertionError("workers would start")

    monkeypatch.setattr(ray, "get_runtime_context", no_ray)
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(json.dumps({"input": f"q {n}", "output": f"a {n * n}"}) for n in range(30)))
    store = StoreConfig(uri=(tmp_path / "store").as_uri(), cache=tmp_path / "cache")
    repository = repository_from(store, {})
    data = DataConfig(sources=(str(path),), report_folder=tmp_path / "report")
    publish_sources(repository, data, tiny_config)

    def start(*overrides, may_grow=True):
        config = load_config(FinetuneConfig, None, ["training.use_gpu=false", *overrides])
        config = config.model_copy(update={"store": store, "base": tiny_config})
        return finetune(config, print, may_grow=may_grow)

    start.repository = repository
    return start


def test_what_is_possible_comes_to_the_workers(start):
    with pytest.raises(AssertionError, match="workers would start"):
        start()


@pytest.mark.parametrize(
    ("override", "kind", "words"),
    [
        ("data.name=nothing", NotFoundError, "prepare_data first"),
        ("training.dataset_version=7", NotFoundError, "no version 7"),
        ("training.run_id=../x", InputError, "training.run_id"),
        ("adapter.name=base", InputError, "names the base without an adapter"),
        ("adapter.name=../x", InputError, "name"),
        ("training.wandb_project=p", InputError, r"llama-platform\[wandb\]"),
    ],
)
def test_wrong_input_is_refused(start, override, kind, words):
    with pytest.raises(kind, match=words):
        start(override)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("training.use_gpu=true", r"need 4 GPUs, this machine has 0; .*training\.use_gpu=false"),
        ("training.workers=8", "need 8 CPUs, this machine has 4; use fewer workers$"),
    ],
)
def test_what_one_machine_lacks_is_said_before_a_worker_starts(start, monkeypatch, override, words):
    import ray

    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0})
    settings = ("training.workers=4", "training.accumulation_steps=2", override)
    with pytest.raises(InputError, match=words):
        start(*settings, may_grow=False)
    with pytest.raises(AssertionError, match="workers would start"):
        start(*settings)  # a cluster may grow


def test_checkpoints_of_something_else_are_not_continued(start):
    progress = {"global_batch_size": 16, "step": 3, "identity": "another"}
    save_checkpoint(start.repository, "r", Checkpoint(3, {}, {"exp_avg": {}, "exp_avg_sq": {}}, progress))
    with pytest.raises(InputError, match="its checkpoints are of another dataset version, base or lora"):
        start("training.run_id=r")


def test_a_number_of_workers_that_does_not_divide_the_batch_is_refused(start):
    progress = {"global_batch_size": 16, "step": 3}
    save_checkpoint(start.repository, "r", Checkpoint(3, {}, {"exp_avg": {}, "exp_avg_sq": {}}, progress))
    with pytest.raises(InputError, match="cannot be divided over 3 workers"):
        start("training.run_id=r", "training.workers=3")


def test_a_dataset_of_other_prompts_is_refused(start, tiny_config):
    def prepared_otherwise(version):
        manifest = read(version)
        return manifest.model_copy(update={"metadata": {**manifest.metadata, "prompt_fingerprint": "e" * 64}})

    read = start.repository.manifest
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(start.repository), "manifest", lambda _, version: prepared_otherwise(version))
        with pytest.raises(InputError, match=r"chats@1 was prepared with another prompt"):
            start()


def test_a_chat_that_is_longer_than_the_base_reads_is_told_before_the_start(start, monkeypatch):
    monkeypatch.setattr(trainer, "max_positions", lambda base: 8)
    with pytest.raises(InputError, match=r"a chat of \d+ tokens, the base reads 8: .*data\.max_tokens=8"):
        start()


def test_other_settings_for_a_run_without_steps_left_are_refused(start):
    progress = {"global_batch_size": 16, "step": 6}
    save_checkpoint(start.repository, "r", Checkpoint(6, {}, {"exp_avg": {}, "exp_avg_sq": {}}, progress))
    with pytest.raises(AssertionError, match="workers would start"):
        start("training.run_id=s")  # writes the configuration as a first start does
    written = start.repository.store.read("runs/s/config.yaml").content
    start.repository.store.write("runs/r/config.yaml", written)
    with pytest.raises(AssertionError, match="workers would start"):
        start("training.run_id=r")
    with pytest.raises(InputError, match=r"has made its 6 steps; learning_rate would change nothing"):
        start("training.run_id=r", "training.learning_rate=1e-3")
    with pytest.raises(AssertionError, match="workers would start"):
        start("training.run_id=r", "training.learning_rate=1e-3", "training.epochs=9")


def test_a_run_that_another_driver_is_at_work_on_is_refused(start, monkeypatch):
    monkeypatch.setattr(lease, "LOOK_S", 0.02)
    with (
        lease.Lease(start.repository.store, "runs/r/lease.json", "run r", lease_s=0.4),
        pytest.raises(ConflictError, match="run r is held by process"),
    ):
        start("training.run_id=r")
