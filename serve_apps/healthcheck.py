"""The health check of a container: exit code 0 where the application runs, be it that it still loads its model.

python -m serve_apps.healthcheck [PORT]
"""

import sys
from collections.abc import Sequence
from urllib.error import URLError
from urllib.request import urlopen

TIMEOUT_S = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Ask `/health/live`, and return the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    port = int(arguments[0]) if arguments else 8000
    try:
        with urlopen(f"http://127.0.0.1:{port}/health/live", timeout=TIMEOUT_S):  # http, always
            return 0
    except (URLError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
