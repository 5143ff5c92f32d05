"""Waiting for a signal to stop."""

import signal
import threading

STOP = (signal.SIGINT, signal.SIGTERM)


def end_on_signal() -> None:
    """Let SIGINT and SIGTERM end this process in order, through its `finally` clauses, with exit code 0.

    Ray's own handler, which it sets when it starts, ends a process at once and leaves what it started running.
    """

    def end(number: int, _: object) -> None:
        raise SystemExit(0)

    for number in STOP:
        signal.signal(number, end)


def wait_for_signal() -> int:
    """Return the number of SIGINT or SIGTERM when one comes; a second one ends the process at once."""
    stopped, came = threading.Event(), [0]

    def stop(number: int, _: object) -> None:
        came[0] = number
        signal.signal(number, signal.SIG_DFL)
        stopped.set()

    # Set here, after Ray has set its own; and SIGINT, too: the shell's background jobs start with it ignored.
    for number in STOP:
        signal.signal(number, stop)
    while not stopped.wait(1):
        continue
    return came[0]
