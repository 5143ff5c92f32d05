"""From exceptions to exit codes, for every command of the platform."""

import sys
from collections.abc import Callable

from llama_platform.errors import PlatformError


def run_command(command: Callable[[], None]) -> int:
    """Run `command`; print an error of ours as one text on stderr and return its exit code.

    0 is success, 1 a failed run, 2 wrong input, 75 a run that was stopped and can be continued. Anything unforeseen
    keeps its traceback.
    """
    try:
        command()
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
