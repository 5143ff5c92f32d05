"""The scale of float16 losses goes into a checkpoint and comes out of it; DeepSpeed's optimizers keep it as a property."""

from types import SimpleNamespace

import pytest

from llama_platform.training.run.state import TrainerState
from llama_platform.training.zero.state import loss_scale, set_loss_scale


def engine(in_float16, scale=65536):
    return SimpleNamespace(fp16_enabled=lambda: in_float16, optimizer=SimpleNamespace(loss_scale=scale))


def test_a_run_goes_on_with_the_scale_that_it_had_come_to():
    state = TrainerState(global_batch_size=8, loss_scale=loss_scale(engine(True, 512)))
    resumed = engine(True)
    set_loss_scale(resumed, TrainerState.from_json({"global_batch_size": 8, "loss_scale": state.loss_scale}).loss_scale)
    assert resumed.optimizer.loss_scale == 512


@pytest.mark.parametrize(("in_float16", "scale"), [(True, None), (False, 512.0)])
def test_without_one_the_engines_own_stays(in_float16, scale):
    resumed = engine(in_float16)
    set_loss_scale(resumed, scale)
    assert resumed.optimizer.loss_scale == 65536


def test_wider_types_have_none():
    assert loss_scale(engine(False)) is None
