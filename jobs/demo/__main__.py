"""The whole path on this machine, with the tiny base: chats and documents in, answers over HTTP out.

    python -m jobs.demo --chats chats.json --docs folder --store s3://bucket/prefix --set data.policies.malformed=drop

`make demo` and `make serve` call it; the report is `.demo/report.json`.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from jobs.demo.stages import WORK, Demo
from llama_platform.cli.quiet import quiet_libraries
from llama_platform.cli.ray_cluster import connect, require_token
from llama_platform.cli.signals import wait_for_signal
from llama_platform.errors import PlatformError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", help="file or folder with chats; default: the sample chats")
    parser.add_argument("--docs", help="file or folder with documents; default: this project's own")
    parser.add_argument("--store", help="s3://bucket/prefix or file:///folder; default: .demo/store")
    parser.add_argument("--question", help="what /rag is asked")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a value of tiny_lora_cpu.yaml"
    )
    parser.add_argument("--keep-serving", action="store_true", help="serve until Ctrl-C")
    arguments = parser.parse_args(argv)
    print("Loading torch, transformers and Ray …", flush=True)
    quiet()
    try:
        demo = Demo(arguments.chats, arguments.docs, arguments.store, arguments.question, arguments.set)
        run(demo, keep_serving=arguments.keep_serving)
    except PlatformError as error:
        print(f"error: {error}", file=sys.stderr)
        if "--set " in str(error):
            print("(make takes the same as SET='KEY=VALUE …')", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def run(demo: Demo, *, keep_serving: bool) -> None:
    """Run all stages, write the report, and stop what was started."""
    WORK.mkdir(exist_ok=True)
    (WORK / "report.json").unlink(missing_ok=True)  # an old one must not pass for this run's
    for stage in (demo.base, demo.prepare):
        demo.run(stage)
    token = require_token(WORK / "ray_auth_token")
    print("Starting Ray on this machine …", flush=True)
    with connect(local=True) as dashboard:
        demo.dashboard = dashboard
        for stage in (demo.finetune, demo.evaluate, demo.publish, demo.index, demo.serve, demo.predict, demo.rag):
            demo.run(stage)
        demo.finish()
        if keep_serving:
            print(f"Serving at {demo.url}, every route described at {demo.url}/docs. Ctrl-C stops it.")
            print(f"Its key is in {WORK / 'key'}: send it as Authorization: Bearer …")
            print(f"Administration at {demo.url}/admin/adapters and /admin/indexes, token in {WORK / 'admin_token'}.")
            print(f"Ray dashboard at http://{dashboard}, token in {token}.", flush=True)
            wait_for_signal()
        print("Stopping Ray …", flush=True)


def quiet() -> None:
    """Prepare this process for the tiny base on CPUs, without the notices of the libraries below."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    os.environ.setdefault("RAY_TRAIN_ENABLE_STATE_TRACKING", "1")
    # Ray's C++ core writes to this terminal by itself; what fails comes back as an exception all the same.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    quiet_libraries()


if __name__ == "__main__":
    sys.exit(main())
