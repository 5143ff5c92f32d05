import socket

from llama_platform.ports import free_port, is_listening


def test_a_taken_port_is_not_used_again():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) != port
        assert is_listening(f"127.0.0.1:{port}", 2)
    for nothing in (f"127.0.0.1:{port}", "nonsense", "127.0.0.1:99999999"):
        assert not is_listening(nothing, 2)
