import socket
import time

import pytest

from llama_platform.errors import TrainingError
from llama_platform.training.run.cluster_watch import ClusterWatch


def test_a_cluster_that_has_gone_is_told_with_what_to_do():
    with socket.create_server(("127.0.0.1", 0)) as server:
        watch = ClusterWatch("run-1", f"127.0.0.1:{server.getsockname()[1]}", look_s=0.01, gone_s=0.1)
        time.sleep(0.15)
        watch.check()
    time.sleep(0.05)
    watch.check()  # away, but not for long enough
    time.sleep(0.15)
    with pytest.raises(TrainingError, match=r"run run-1: .* is gone; .*--set training\.run_id=run-1"):
        watch.check()


def test_it_looks_no_more_often_than_it_should():
    watch = ClusterWatch("run-1", "127.0.0.1:1", look_s=60, gone_s=0)
    watch.check()
