import socket

import pytest

from serve_apps.standalone import main


@pytest.mark.parametrize("setting", ["config", "=x"])
def test_settings_are_pairs(capsys, setting):
    assert main([setting]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


def test_a_port_that_is_taken_is_named_before_anything_starts(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["--port", str(port)]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err
