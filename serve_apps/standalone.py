"""The application on a Ray of its own, in one command, as a container of one machine runs it.

    python -m serve_apps.standalone config=app_container.yaml engine.max_running=4

What follows is the application's configuration, as for `serve run`. SIGTERM and SIGINT let what has begun end, and stop
it; a second one ends it at once.
"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

from llama_platform.cli.exit_codes import run_command
from llama_platform.cli.ray_cluster import connect
from llama_platform.cli.signals import end_on_signal, wait_for_signal
from llama_platform.errors import ConfigError, UnavailableError
from llama_platform.logs import setup_logging
from llama_platform.ports import is_listening

log = logging.getLogger("serve_apps.standalone")  # run as a program its name is another
NAME = "llama"
FLUSH_S = 5.0
"""How long the ingress may take to write what is not in the store yet, in seconds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until a signal comes, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port of the application (default: %(default)s)")
    parser.add_argument("--metrics-port", type=int, help="port of Prometheus metrics; default: one that Ray chooses")
    parser.add_argument("--drain-s", type=float, help="seconds that requests may take to end; default: their deadline")
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="configuration of the application")
    arguments = parser.parse_args(argv)
    setup_logging()
    try:
        return run_command(lambda: _serve(arguments))
    except SystemExit as stopped:  # Ray's own handler, until ours is set, exits with the number of the signal
        return 0 if stopped.code in (0, signal.SIGTERM) else int(stopped.code or 1)


def _serve(arguments: argparse.Namespace) -> None:
    given = dict(_pair(setting) for setting in arguments.settings)
    if is_listening(f"{arguments.host}:{arguments.port}", 1):
        raise UnavailableError(f"something listens at {arguments.host}:{arguments.port} already; choose another --port")
    with connect(local=True, metrics_port=arguments.metrics_port, show_events=True):
        end_on_signal()
        from ray import serve

        from serve_apps.app import build_app
        from serve_apps.config import parse_app_args

        config = parse_app_args(given)
        serve.start(http_options={"host": arguments.host, "port": arguments.port}, proxy_location="HeadOnly")
        serve.run(build_app(config), name=NAME, route_prefix="/")
        log.info("serving", extra={"host": arguments.host, "port": arguments.port, "pid": os.getpid()})
        came = wait_for_signal()
        seconds = config.limits.request_timeout_s if arguments.drain_s is None else arguments.drain_s
        log.info("stopping", extra={"signal": came, "drain_s": seconds})
        left = serve.get_app_handle(NAME).drain.remote(seconds).result(timeout_s=seconds + FLUSH_S)
        log.info("drained", extra={"requests_left": left})


def _pair(setting: str) -> tuple[str, str]:
    name, found, value = setting.partition("=")
    if not found or not name:
        raise ConfigError(f"'{setting}': settings are KEY=VALUE, such as config=app_container.yaml")
    return name, value


if __name__ == "__main__":
    sys.exit(main())
