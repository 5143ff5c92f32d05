import socket
from pathlib import Path

import pytest

from llama_platform.ports import FREE_PORTS, free_port, is_listening, is_loopback


def test_a_taken_port_is_not_used_again():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
        assert is_listening(f"127.0.0.1:{port}", 2)
    for nothing in (f"127.0.0.1:{port}", "nonsense", "127.0.0.1:99999999"):
        assert not is_listening(nothing, 2)


def test_no_outgoing_connection_takes_a_port_before_it_is_used():
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    ports = {free_port() for _ in range(20)}
    assert ports <= set(FREE_PORTS)
    assert len(ports) > 1
    if limits.exists():
        first, last = map(int, limits.read_text().split())
        assert not any(first <= port <= last for port in ports)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.2"])
def test_loopback_is_loopback(host):
    assert is_loopback(host)
