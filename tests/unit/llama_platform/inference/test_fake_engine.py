import pytest

from engine_contract import EngineContract
from fake_engine import FakeEngine


@pytest.fixture(scope="module")
def engine(tiny_template):
    return FakeEngine(tiny_template.tokenizer)


class TestFakeEngine(EngineContract):
    """The contract, on what stands for an engine in other tests."""
