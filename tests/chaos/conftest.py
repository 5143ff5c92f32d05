"""Clusters, stores and runs for the tests of this folder."""

import os

import pytest

from finetune_jobs import prepare_chats, runs_on
from ray_nodes import RayCluster


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """A local store with a dataset: (URI, cache)."""
    folder = tmp_path_factory.mktemp("platform")
    uri, cache = (folder / "store").as_uri(), folder / "cache/artifacts"
    prepare_chats(dict(os.environ), uri, cache)
    return uri, cache


@pytest.fixture(scope="module")
def one_node():
    """A node with two CPUs."""
    cluster = RayCluster(head_cpus=2)
    yield cluster
    cluster.close()


@pytest.fixture
def two_nodes():
    """A head and a second node, each with one CPU: (cluster, the second node's process)."""
    cluster = RayCluster(head_cpus=1)
    try:
        yield cluster, cluster.add_node()
    finally:
        cluster.close()


@pytest.fixture
def runs(one_node, store):
    with runs_on(one_node.environment, *store) as found:
        yield found


@pytest.fixture(scope="module")
def uninterrupted(one_node, store):
    """The curve of a run that nothing happens to."""
    with runs_on(one_node.environment, *store) as found:
        job = found.start("uninterrupted")
        assert job.ends() == 0, job.output()
        return found.curve("uninterrupted")
