"""Ports: which are free on this machine, and whether something listens at an address."""

import ipaddress
import random
import socket

from llama_platform.errors import UnavailableError

# Where free ports are looked for: below those that systems give to outgoing connections (from 32768 on Linux), so
# that none takes a port between its choice and its use, and above those that Ray gives to its workers (to 19999).
FREE_PORTS = range(20000, 32768)


def free_port(preferred: int = 0) -> int:
    """Return `preferred` if nothing listens there on 127.0.0.1, else a port that is free.

    Raises:
        UnavailableError: there is none.
    """
    for port in ([preferred] if preferred else []) + random.sample(FREE_PORTS, len(FREE_PORTS)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise UnavailableError("no free port on 127.0.0.1; end programs that hold many")


def is_listening(address: str, timeout_s: float) -> bool:
    """Return whether a TCP connection to `host:port` is accepted within some seconds."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_s):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def is_loopback(host: str) -> bool:
    """Return whether an address is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
