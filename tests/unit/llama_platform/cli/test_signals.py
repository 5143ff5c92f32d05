import os
import signal
import subprocess
import sys

import pytest

from ray_nodes import wait_for

PROGRAM = "from llama_platform.cli.signals import wait_for_signal; print('ready', flush=True); print(wait_for_signal())"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_returns_the_signal_that_came(number):
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        wait_for(lambda: _caught(process.pid) & (1 << (signal.SIGTERM - 1)), 20)  # it says so a moment before
        os.kill(process.pid, number)
        assert process.communicate(timeout=30)[0] == f"{int(number)}\n"
        assert process.returncode == 0


def test_a_signal_ends_a_process_through_its_finally_clauses():
    program = (
        "import time; from llama_platform.cli.signals import end_on_signal; end_on_signal()\n"
        "try: print('ready', flush=True); time.sleep(60)\nfinally: print('in order')"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30)[0] == "in order\n"
        assert process.returncode == 0


def _caught(pid: int) -> int:
    with open(f"/proc/{pid}/status") as lines:  # noqa: PTH123
        return int(next(line.split()[1] for line in lines if line.startswith("SigCgt")), 16)
