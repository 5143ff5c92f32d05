import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from serve_apps.llama import autoscaling
from serve_apps.llama.autoscaling import TokenLoadPolicy


def decide(replicas=1, queued=0, requests=1, **metrics):
    by_replica = {name: {f"r{n}": value for n, value in enumerate(values)} for name, values in metrics.items()}
    context = SimpleNamespace(
        aggregated_metrics=by_replica, current_num_replicas=replicas, total_queued_requests=queued,
        total_num_requests=requests,
    )  # fmt: skip
    return TokenLoadPolicy(tokens_per_replica=1000, queue_depth=10, response_s=10)(context)[0]


@pytest.mark.parametrize(
    ("expected", "load"),
    [
        (0, {"requests": 0}),
        (1, {"requests": 1}),
        (1, {"tokens_in_flight": [900.0]}),
        (3, {"tokens_in_flight": [2500.0]}),
        (3, {"replicas": 2, "tokens_in_flight": [1500.0, 1400.0]}),
        (2, {"tokens_in_flight": [100.0], "waiting": [11.0]}),
        (1, {"tokens_in_flight": [100.0], "waiting": [9.0]}),
        (2, {"tokens_in_flight": [100.0], "queued": 11}),
        (2, {"tokens_in_flight": [100.0], "waiting": [1.0], "response_s": [11.0]}),
        (2, {"tokens_in_flight": [100.0], "waiting": [1.0], "queue_wait_s": [11.0]}),
        (1, {"tokens_in_flight": [100.0], "waiting": [0.0], "response_s": [60.0]}),  # long answers alone need no help
    ],
)
def test_replicas_for_a_load(expected, load):
    assert decide(**load) == expected


def test_the_module_needs_the_standard_library_only():
    tree = ast.parse(Path(autoscaling.__file__).read_text())
    imported = {
        name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    } | {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= set(sys.stdlib_module_names)
