import pytest

from llama_platform.cli.exit_codes import run_command
from llama_platform.errors import InputError, StoppedError, TrainingError


@pytest.mark.parametrize(("error", "code"), [(InputError("a: b"), 2), (TrainingError("t"), 1), (StoppedError("s"), 75)])
def test_errors_of_ours_are_one_text_and_a_code(capsys, error, code):
    def command():
        raise error

    assert run_command(command) == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_what_nobody_foresaw_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0)
    assert run_command(lambda: None) == 0
