"""Checkpoints hold all that a run needs, and how the work is divided does not change the loss."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("training_program.py")
SECOND_HALF = slice(10, None)
ALONE = {
    **{f"zero{stage}": {"stage": stage, "resume": True} for stage in range(4)},
    "dropout": {"stage": 2, "dropout": 0.1, "resume": True},
    "preferences": {"stage": 2, "beta": 0.1, "resume": True},
    "preferences padded": {"stage": 0, "beta": 0.1, "batching": "padded"},
    "preferences zero3": {"stage": 3, "beta": 0.1},
    "grouped": {"stage": 2, "batching": "grouped"},
    "padded": {"stage": 2, "batching": "padded"},
    "offloaded": {"stage": 2, "offload": "optimizer"},
    "offloaded zero3": {"stage": 3, "offload": "optimizer_and_base", "resume": True},
}
IN_FOUR_BITS = {"nf4": {"stage": 2, "quantize": "nf4", "resume": True}}
BITSANDBYTES = Path(__file__).parents[5] / ".cache/quantization"
"""Where `make test-chaos` installs it."""
IN_BFLOAT16 = {stage: {"stage": stage, "precision": "bfloat16", "resume": True} for stage in (0, 2)}
TOGETHER = {
    "zero2": {"stage": 2},
    "zero3": {"stage": 3},
    "dropout": {"stage": 2, "dropout": 0.1, "resume": True},
    "preferences": {"stage": 2, "beta": 0.1},
}


def train(folder, world, variants, *paths):
    """Return what the first of `world` processes prints."""
    arguments = [str(world), str(folder / f"meet{world}"), json.dumps(variants)]
    processes = [
        subprocess.Popen(
            [sys.executable, PROGRAM, str(rank), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": ":".join([*sys.path, *paths])},
        )
        for rank in range(world)
    ]
    outputs = [process.communicate(timeout=240) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return json.loads(outputs[0][0].splitlines()[-1])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return train(tmp_path_factory.mktemp("alone"), 1, ALONE)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    return train(tmp_path_factory.mktemp("together"), 2, TOGETHER)


@pytest.mark.parametrize("name", ["zero0", "zero1", "zero2", "zero3", "dropout", "offloaded zero3", "preferences"])
def test_a_restored_engine_continues_the_same_curve(alone, name):
    assert alone[name]["resumed"] == pytest.approx(alone[name]["whole"][SECOND_HALF], rel=1e-6)
    assert alone[name]["whole"][-1] < alone[name]["whole"][0]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_zero_stage_has_the_same_curve(alone, stage):
    assert alone[f"zero{stage}"]["whole"] == pytest.approx(alone["zero0"]["whole"], rel=1e-5)


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_every_zero_stage_tells_the_same_norm_of_the_gradients(alone, stage):
    assert alone["zero2"]["norms"][0] > 0
    assert alone[f"zero{stage}"]["norms"] == pytest.approx(alone["zero2"]["norms"], rel=1e-3)


# bfloat16 keeps 8 bits: this is what the rounding of activations leaves over 20 steps.
@pytest.mark.nightly  # minutes on processors without products in bfloat16
def test_resumption_and_stages_agree_in_bfloat16(alone, tmp_path):
    for halves in train(tmp_path, 1, IN_BFLOAT16).values():
        assert halves["resumed"] == pytest.approx(halves["whole"][SECOND_HALF], rel=1e-3)
        assert halves["whole"] == pytest.approx(alone["zero0"]["whole"], rel=2e-2)


@pytest.mark.parametrize("name", list(TOGETHER))
def test_two_workers_have_the_curve_of_one(alone, together, name):
    assert together[name]["whole"] == pytest.approx(alone[name]["whole"], rel=1e-4)


def test_two_restored_workers_continue_the_same_curve(together):
    assert together["dropout"]["resumed"] == pytest.approx(together["dropout"]["whole"][SECOND_HALF], rel=1e-6)


def test_dropout_changes_the_curve(alone):
    assert alone["dropout"]["whole"][1:] != pytest.approx(alone["zero2"]["whole"][1:], rel=1e-3)


@pytest.mark.parametrize("other", ["preferences padded", "preferences zero3"])
def test_preferences_have_one_curve_too(alone, other):
    assert alone["preferences"]["whole"][0] == pytest.approx(math.log(2), rel=1e-5)
    assert alone[other]["whole"] == pytest.approx(alone["preferences"]["whole"], rel=1e-3)


@pytest.mark.parametrize("batching", ["grouped", "padded"])
def test_every_way_of_batching_has_the_same_curve(alone, batching):
    assert alone[batching]["whole"] == pytest.approx(alone["zero2"]["whole"], rel=1e-4)


@pytest.mark.parametrize("name", ["offloaded", "offloaded zero3"])
def test_what_is_offloaded_has_the_same_curve(alone, name):
    assert alone[name]["whole"] == pytest.approx(alone["zero2"]["whole"], rel=1e-5)


@pytest.mark.skipif(not BITSANDBYTES.exists(), reason="bitsandbytes is not in .cache/quantization")
def test_a_base_of_four_bits_learns_nearly_as_well_and_goes_on(alone, tmp_path):
    run = train(tmp_path, 1, IN_FOUR_BITS, str(BITSANDBYTES))["nf4"]
    found, exact = run["whole"], alone["zero2"]["whole"]
    assert run["resumed"] == pytest.approx(found[SECOND_HALF], rel=1e-6)
    assert found != exact
    assert found[-1] < found[0] - 0.1
    assert found == pytest.approx(exact, rel=0.1)
