import pytest

from llama_platform.errors import InputError
from llama_platform.training.run.state import TrainerState


def test_a_run_is_of_one_thing():
    progress = TrainerState(16)
    progress.claim("a", "run-1")
    progress.claim("a", "run-1")
    with pytest.raises(InputError, match="run-1: its checkpoints are of another"):
        progress.claim("b", "run-1")


def test_patience_counts_evaluations_without_a_lower_loss():
    progress = TrainerState(16)
    gains = [progress.add_evaluation(loss, patience=2) for loss in (3.0, 2.0, 2.5, 1.9)]
    assert gains == [True, True, False, True]
    assert not progress.stopped_early
    assert [progress.add_evaluation(loss, patience=2) for loss in (2.0, 1.9)] == [False, False]
    assert progress.stopped_early
    assert (progress.best_eval_loss, progress.eval_loss) == (1.9, 1.9)


def test_without_patience_it_never_stops_early():
    progress = TrainerState(16)
    for loss in (1.0, 2.0, 3.0, 4.0):
        progress.add_evaluation(loss, patience=None)
    assert not progress.stopped_early


def test_the_summary_is_of_the_run_not_of_its_bookkeeping():
    progress = TrainerState(16)
    progress.add_step(2.0, 100)
    progress.add_step(1.0, 50)
    summary = progress.summary()
    assert (summary["step"], summary["tokens"], summary["loss_first"], summary["loss_last"]) == (2, 150, 2.0, 1.0)
    assert not {"unlogged", "identity", "loss_scale"} & set(summary)


def test_what_is_recorded_of_the_best_weights_is_theirs():
    state = TrainerState(16)
    for loss, held_out in ((3.0, 2.0), (2.0, 1.0), (1.0, 1.5)):
        state.add_step(loss, 10)
        state.add_evaluation(held_out, None)
    assert (state.summary()["step"], state.summary()["eval_loss"]) == (3, 1.5)
    best = state.summary(best=True)
    assert (best["step"], best["eval_loss"]) == (2, 1.0)
