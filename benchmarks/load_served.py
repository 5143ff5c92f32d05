"""The application of `benchmarks.load`, twice on a Ray of its own: guarded at /, and without any guard at /bare.

    python -m benchmarks.load_served PORT GUARDED_ARGUMENTS_AS_JSON BARE_ARGUMENTS_AS_JSON

Prints `{"ready": seconds}` when both answer, and serves until standard input ends.
"""

import json
import sys
import time

import httpx

from llama_platform.cli.ray_cluster import connect


def main() -> int:
    """Serve until standard input ends."""
    port, guarded, bare = int(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    with connect(local=True):
        from ray import serve

        from serve_apps.app import app

        serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
        start = time.monotonic()
        serve.run(app(bare), name="bare", route_prefix="/bare")
        serve.run(app(guarded), name="guarded", route_prefix="/")
        for path in ("/health/ready", "/bare/health/ready"):
            while httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).status_code != 200:
                time.sleep(0.05)
        print(json.dumps({"ready": time.monotonic() - start}), flush=True)
        sys.stdin.read()
        serve.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
