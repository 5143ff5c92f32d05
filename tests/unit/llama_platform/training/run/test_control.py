from llama_platform.errors import DivergedError
from llama_platform.training.run.control import RunControl
from llama_platform.training.run.metrics import StepMetrics


def test_the_control_gives_what_is_new():
    control = RunControl()
    first, *others = (StepMetrics(n, 3, 1.0, 1e-3, 0.5, 100.0, 1.0) for n in (1, 2, 3))
    control.post([first])
    control.post(others)
    assert control.read_from(1) == others
    assert control.read_from(3) == []


def test_a_request_to_stop_stays():
    control = RunControl()
    assert not control.stop_requested()
    control.request_stop()
    assert control.stop_requested()


def test_the_first_hopeless_error_is_the_reason():
    control = RunControl()
    assert control.given_up() is None
    control.give_up(DivergedError("step 3: the loss is nan"))
    control.give_up(DivergedError("a consequence"))
    assert str(control.given_up()) == "step 3: the loss is nan"
