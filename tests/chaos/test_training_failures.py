"""Whatever ends a run, it goes on, and its loss curve is that of the run that nothing happened to.

Weights and optimizer are float32, dropout is 0.1; at the same number of workers the curves are equal to 1e-6, across
numbers of workers to 1e-4.
"""

import os
import signal

import psutil
import pytest

from finetune_jobs import INTERVAL, STEPS, prepare_chats, runs_on
from ray_nodes import kill_group, wait_for
from s3_fault_proxy import FaultProxy

pytestmark = pytest.mark.timeout(400)


def repeated(steps):
    return len(steps) - len(set(steps))


def train_workers():
    """Return the processes of Ray Train's workers on this machine."""
    titles = ((process, process.info["cmdline"] or [""]) for process in psutil.process_iter(["cmdline"]))
    return [process for process, command in titles if "RayTrainWorker" in command[0]]


def test_a_killed_worker(runs, uninterrupted):
    job = runs.start("worker")
    job.reaches(INTERVAL + 3)
    victims = train_workers()
    assert len(victims) == 2
    victims[0].kill()
    assert job.ends() == 0, job.output()
    assert runs.curve("worker") == pytest.approx(uninterrupted, rel=1e-6)
    assert repeated(job.steps()) <= INTERVAL


def test_a_killed_driver(runs, uninterrupted):
    job = runs.start("driver")
    job.reaches(INTERVAL + 3)
    kill_group(job.process)
    wait_for(lambda: not train_workers(), 60)
    newest = runs.repository().latest("checkpoint", "driver")
    assert max(job.steps()) - runs.repository().manifest(newest).metadata["step"] <= INTERVAL
    again = runs.start("driver")
    assert again.ends() == 0, again.output()
    assert runs.curve("driver") == pytest.approx(uninterrupted, rel=1e-6)


def test_signals_stop_a_run_between_steps_and_nothing_is_repeated(runs, uninterrupted):
    steps = []
    for number in (signal.SIGTERM, signal.SIGINT):
        job = runs.start("signals")
        job.reaches(max(steps, default=0) + 3)
        os.kill(job.process.pid, number)
        assert job.ends(60) == 75, job.output()
        assert "to go on" in job.output()
        assert runs.status("signals")["status"] == "stopped"
        steps += job.steps()
    job = runs.start("signals")
    assert job.ends() == 0, job.output()
    steps += job.steps()
    assert steps == list(range(1, STEPS + 1))
    assert runs.status("signals")["status"] == "finished"
    assert runs.curve("signals") == pytest.approx(uninterrupted, rel=1e-6)


@pytest.mark.nightly
@pytest.mark.parametrize("refused", ["exp_avg_sq.safetensors", "versions/"])
def test_a_refused_upload_fails_the_run_loudly_and_the_last_checkpoint_stands(
    one_node, aws_server, s3_uri, tmp_path, refused
):
    cache = tmp_path / "cache/artifacts"
    # Without a cluster's address the job starts Ray itself, and its workers have its environment.
    environment = {key: value for key, value in one_node.environment.items() if key != "RAY_ADDRESS"} | dict(os.environ)
    with FaultProxy(aws_server) as proxy, runs_on(environment | {"AWS_ENDPOINT_URL": proxy.url}, s3_uri, cache) as runs:
        prepare_chats(environment, s3_uri, cache)
        job = runs.start("refused", **{"training.max_failures": 0, "training.max_steps": 14})
        job.reaches(INTERVAL + 1)
        proxy.refuse("PUT", refused, 403)
        assert job.ends() != 0
        assert "access denied" in job.output()
        assert proxy.refused > 0
        proxy.heal()
        repository = runs.repository()
        newest = repository.latest("checkpoint", "refused")
        assert repository.manifest(newest).metadata["step"] == INTERVAL
        assert runs.status("refused")["status"] == "failed"


@pytest.mark.nightly
def test_a_killed_node_is_replaced(two_nodes, store, uninterrupted):
    cluster, second = two_nodes
    with runs_on(cluster.environment, *store) as runs:
        job = runs.start("node")
        job.reaches(INTERVAL + 3)
        kill_group(second)
        cluster.add_node()
        assert job.ends() == 0, job.output()
        assert runs.curve("node") == pytest.approx(uninterrupted, rel=1e-6)
        assert repeated(job.steps()) <= INTERVAL


@pytest.mark.nightly
def test_a_drained_node_stops_the_run_and_nothing_is_repeated(two_nodes, store, uninterrupted):
    cluster, _ = two_nodes
    with runs_on(cluster.environment, *store) as runs:
        job = runs.start("drained", **{"training.max_steps": 400})
        job.reaches(3)
        cluster.drain(cluster.node_ids()[1])
        assert job.ends(90) == 75, job.output()
        assert runs.status("drained")["status"] == "stopped"
        cluster.add_node()
        reached = max(job.steps())
        again = runs.start("drained", **{"training.max_steps": reached + 4})
        assert again.ends() == 0, again.output()
        assert job.steps() + again.steps() == list(range(1, reached + 5))


@pytest.mark.nightly
def test_an_elastic_run_goes_on_with_one_worker_and_then_with_two(two_nodes, store, uninterrupted):
    cluster, second = two_nodes
    with runs_on(cluster.environment, *store) as runs:
        job = runs.start("elastic", **{"training.min_workers": 1, "training.resize_check_s": 2})
        job.reaches(INTERVAL + 1)
        kill_group(second)
        seen = len(job.steps())
        wait_for(lambda: len(job.steps()) > seen + 3 or job.process.poll() is not None, 120)
        assert len(train_workers()) == 1, job.output()
        cluster.add_node()
        wait_for(lambda: len(train_workers()) == 2 or job.process.poll() is not None, 120)
        assert job.process.poll() is None, job.output()
        assert job.ends() == 0, job.output()
        assert runs.curve("elastic") == pytest.approx(uninterrupted, rel=1e-4)
