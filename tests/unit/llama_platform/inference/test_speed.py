import pytest

from llama_platform.inference import speed
from llama_platform.inference.config import EngineConfig
from llama_platform.inference.torch_engine.engine import TorchEngine
from llama_platform.models.adapter_folder import check_adapter
from llama_platform.models.base_model import BaseConfig


@pytest.fixture(scope="module")
def engine(tiny_template, run):
    engine = TorchEngine(BaseConfig(model="tiny"), tiny_template.tokenizer, 2, EngineConfig(prefix_cache=False))
    yield engine
    run(engine.close())


FIGURES = ("decode 1", "decode 8", "decode 16", "prompt", "adapters", "adapter")


def test_every_figure_is_measured_in_as_many_rounds_as_have_time(engine):
    said = []
    report = speed.measure_speed(engine, 0, said.append)
    assert said == ["limits of this machine", "warming up", "round 1"]
    assert report.rounds == 1
    assert [found.name for found in report.speeds] == [
        "answers, 1 at once",
        "answers, 8 at once",
        "answers, 16 at once",
        "a prompt of 512 tokens",
        "answers, 16 at once with 4 adapters",
        "loading an adapter of rank 64",
    ]
    assert all(found.value > 0 for found in report.speeds)
    assert all(found.share is None or 0 < found.share <= speed.MOST_OF_A_LIMIT for found in report.speeds)
    assert report.products == dict(engine.stats().products)
    assert engine.stats().adapters == ()
    if report.read_gbytes_per_s is not None:  # the CPU kernels run here
        assert report.weight_bytes >= 2 * speed._weights(engine.architecture)


def test_the_adapter_is_one_that_would_be_served(engine, tmp_path):
    assert check_adapter(speed.write_random_adapter(engine.architecture, tmp_path))["r"] == speed.RANK


def test_limits_are_those_of_memory_until_multiplying_takes_longer(engine):
    weights = speed._weights(engine.architecture)
    # Memory allows 60 tokens a second for one request, multiplying 600.
    found = speed._speeds(engine.architecture, dict.fromkeys(FIGURES, 50.0), 600 * 2 * weights / 1e9, 60)
    one, eight, sixteen, prompt, *without = found
    assert [figure.bound_by for figure in (one, eight, sixteen, prompt)] == [*2 * ["memory"], *2 * ["multiplication"]]
    assert [figure.limit for figure in (one, eight, sixteen, prompt)] == pytest.approx([60, 480, 600, 600])
    assert one.share == pytest.approx(50 / 60)
    assert [figure.limit for figure in without] == [None, None]


def test_a_limit_that_was_passed_was_none(engine):
    one, *_ = speed._speeds(engine.architecture, dict.fromkeys(FIGURES, 50.0), 1e6, 40)
    assert (one.limit, one.share, one.bound_by) == (None, None, "")
