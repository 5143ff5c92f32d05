import json
import re
from pathlib import Path

import pytest

from llama_platform.errors import InputError
from llama_platform.inference.gpu_memory import (
    BASES,
    GIB,
    GPUS,
    check_fits,
    gpu_gib,
    parse_quantization,
    plan_memory,
    read_shape,
)

ROOT = Path(__file__).parents[4]


def test_weights_are_those_of_the_models():
    gigabytes = {name: plan_memory(shape, 80, adapters=0).weights / 1e9 for name, shape in BASES.items()}
    # Parameters × 2 bytes: 6.738, 13.016 and 68.977 billion.
    assert gigabytes == pytest.approx({"7b": 13.48, "13b": 26.03, "70b": 137.95}, rel=2e-3)


def test_eight_adapters_of_rank_256_do_not_fit_beside_7b_on_an_a10g():
    plan = plan_memory(BASES["7b"], GPUS["A10G"], adapters=8, rank=256)
    assert plan.adapters / 1e9 == pytest.approx(10.2, abs=0.05)
    assert not plan.fits
    assert plan_memory(BASES["7b"], GPUS["A10G"], adapters=8, rank=64).fits


def test_what_takes_the_memory_is_said_before_vllm_starts():
    check_fits(BASES["7b"], GPUS["A10G"], 1, adapters=8, rank=64)
    words = r"22\.5 GiB .* 12\.6 GiB weights, 9\.5 GiB for 8 adapters of rank 256 .*needs 2\.0 GiB more"
    with pytest.raises(InputError, match=words):
        check_fits(BASES["7b"], GPUS["A10G"], 1, adapters=8, rank=256)


def test_names_that_are_not_known_are_named():
    assert (gpu_gib("H100"), gpu_gib("24"), parse_quantization("int4")) == (79.6, 24.0, "int4")
    for call in (lambda: gpu_gib("B9"), lambda: gpu_gib("-1"), lambda: parse_quantization("int3")):
        with pytest.raises(InputError, match="is not known: give"):
            call()


def test_keys_and_values():
    assert plan_memory(BASES["7b"], 80).kv_per_token == 512 * 1024
    assert plan_memory(BASES["70b"], 80, gpus=4).kv_per_token == 2 * 80 * 1024 * 2 // 4
    plan = plan_memory(BASES["7b"], 80, adapters=0)
    used = plan.weights + plan.overhead + plan.kv_cache
    assert used == pytest.approx(0.9 * 80 * GIB, abs=4)
    assert plan.requests_of(4096) == plan.kv_cache // (4096 * 512 * 1024)


def test_what_does_not_fit_has_room_for_nothing():
    plan = plan_memory(BASES["70b"], GPUS["A10G"])
    assert plan.kv_cache < 0
    assert plan.requests_of(1) == 0


def test_a_shape_is_read_from_a_folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(BASES["13b"]))
    assert read_shape(str(tmp_path)) == BASES["13b"]
    (tmp_path / "config.json").write_text('{"hidden_size": 1}')
    with pytest.raises(InputError, match="has no intermediate_size, num_attention_heads, num_hidden_layers"):
        read_shape(str(tmp_path))
    with pytest.raises(InputError, match="give 7b, 13b, 70b or a folder"):
        read_shape(str(tmp_path / "nothing"))


def test_the_table_of_the_docs_is_what_is_computed():
    lines = re.findall(
        r"^\| (\S+b) \| (none|int4) \| (\d) × (\S+) \| (.+) \|$", (ROOT / "docs/gpu.md").read_text(), re.M
    )
    usual = [gpu for gpu in GPUS if gpu != "H200"]
    assert {(base, gpu) for base, _, _, gpu, _ in lines} == {(base, gpu) for base in BASES for gpu in usual}
    for base, quantization, gpus, gpu, cells in lines:
        plan = plan_memory(BASES[base], GPUS[gpu], int(gpus), quantization=quantization)
        sizes = [plan.weights, plan.adapters, max(0, plan.kv_cache)]
        computed = [*(f"{size / GIB:.1f}" for size in sizes), str(plan.requests_of(4096))]
        assert cells.split(" | ") == computed, (base, gpu)
