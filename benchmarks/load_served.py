"""The application of `benchmarks.load`, twice on a Ray of its own: guarded at /, and without any guard at /bare.

    python -m benchmarks.load_served PORT GUARDED_ARGUMENTS_AS_JSON BARE_ARGUMENTS_AS_JSON

Prints `{"ready": seconds}` when both answer, and serves until standard input ends.
"""

import json
import sys
import time

from benchmarks.served import serve_on, until_input_ends


def main() -> int:
    """Serve until standard input ends."""
    port, guarded, bare = int(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    with serve_on(port) as serve:
        from serve_apps.app import app

        start = time.monotonic()
        serve.run(app(bare), name="bare", route_prefix="/bare")
        serve.run(app(guarded), name="guarded", route_prefix="/")
        until_input_ends(port, start, ("", "/bare"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
