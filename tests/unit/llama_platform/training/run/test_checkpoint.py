import pytest
import torch

from llama_platform.artifacts.repository import open_repository
from llama_platform.errors import IntegrityError
from llama_platform.training.run.checkpoint import (
    Checkpoint,
    best_weights,
    newest_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)


@pytest.fixture
def repository(tmp_path):
    return open_repository((tmp_path / "store").as_uri(), tmp_path / "cache")


def checkpoint(step, eval_loss=None):
    weights = {"w": torch.full((3,), float(step))}
    return Checkpoint(step, weights, {"exp_avg": weights, "exp_avg_sq": weights}, {"step": step}, eval_loss)


def test_the_newest_comes_back_whole(repository):
    assert newest_checkpoint(repository, "run") is None
    for step in (1, 2):
        save_checkpoint(repository, "run", checkpoint(step, eval_loss=0.5 * step))
    found = newest_checkpoint(repository, "run")
    assert (found.step, found.eval_loss, found.progress) == (2, 1.0, {"step": 2})
    assert torch.equal(found.moments["exp_avg_sq"]["w"], torch.full((3,), 2.0))


def test_the_last_ones_and_the_best_are_kept(repository):
    for step, loss in [(1, 3.0), (2, 1.0), (3, None), (4, 2.0), (5, None)]:
        save_checkpoint(repository, "run", checkpoint(step, loss))
        prune_checkpoints(repository, "run", keep=2)
    assert repository.versions("checkpoint", "run") == [2, 4, 5]
    assert torch.equal(best_weights(repository, "run")["w"], torch.full((3,), 2.0))
    keys = list(repository.store.list_keys("runs/run/checkpoints/objects/"))
    assert len({key.split("/")[4] for key in keys}) == 3


def test_without_an_evaluation_nothing_is_best(repository):
    save_checkpoint(repository, "run", checkpoint(1))
    assert best_weights(repository, "run") is None


def damage(repository, number, what):
    version = repository.version("checkpoint", "run", number)
    key = f"versions/{number}.json" if what == "record" else f"objects/{version.digest}/{what}"
    repository.store.write(f"runs/run/checkpoints/{key}", b"damaged")


@pytest.mark.parametrize("what", ["adapter.safetensors", "manifest.json", "record"])
def test_a_damaged_newest_checkpoint_is_passed_over_loudly(repository, caplog, what):
    for step in (1, 2):
        save_checkpoint(repository, "run", checkpoint(step))
    damage(repository, 2, what)
    assert newest_checkpoint(repository, "run").step == 1
    assert "the one before is taken" in caplog.text


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew(repository):
    save_checkpoint(repository, "run", checkpoint(1))
    damage(repository, 1, "manifest.json")
    with pytest.raises(IntegrityError, match="all 1 checkpoints are damaged"):
        newest_checkpoint(repository, "run")


@pytest.mark.parametrize("what", ["manifest.json", "record"])
def test_pruning_passes_a_damaged_checkpoint_over(repository, caplog, what):
    for step, loss in [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]:
        save_checkpoint(repository, "run", checkpoint(step, loss))
    damage(repository, 1, what)
    prune_checkpoints(repository, "run", keep=1)
    assert repository.versions("checkpoint", "run") == [1, 2, 4]
    assert "passed over" in caplog.text
    assert torch.equal(best_weights(repository, "run")["w"], torch.full((3,), 2.0))
