"""Serving while replicas come, go and die: rolling updates, autoscaling, `kill -9`."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest
import yaml

from llama_platform.ports import free_port
from ray_nodes import RayCluster, wait_for
from served_app import ADMIN_TOKEN, ServedApp, Streams

ROOT = Path(__file__).parents[2]
ANSWER = {"prompt": "Who are you?", "temperature": 0.9, "max_new_tokens": 200, "adapter": "base", "seed": 1}
SCALING = {
    "tokens_per_replica": 3000, "interval_s": 0.5, "look_back_s": 2, "upscale_delay_s": 2, "downscale_delay_s": 8,
}  # fmt: skip


@pytest.fixture(scope="module")
def slow_base(tmp_path_factory, tiny_config):
    """A base that is large enough for answers to last: random weights, the tiny base's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from llama_platform.models.base_model import load_template

    folder = tmp_path_factory.mktemp("base")
    tokenizer = load_template(tiny_config).tokenizer
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=1024, intermediate_size=2816, num_hidden_layers=12,
        num_attention_heads=16, num_key_value_heads=16, max_position_embeddings=4096, eos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def app(slow_base, tmp_path_factory):
    cluster = RayCluster(head_cpus=6)
    folder = tmp_path_factory.mktemp("serve")
    (folder / "token").write_text(ADMIN_TOKEN)
    config = yaml.safe_load((ROOT / "serve_apps/configs/local.yaml").read_text())
    config["http_options"]["port"] = port = free_port()
    url = f"http://127.0.0.1:{port}"
    served = ServedApp(cluster.run, cluster.get, cluster.dashboard, url, config, folder / "serve.yaml")
    served.deploy(
        base={"model": str(slow_base), "prompt_style": "plain", "dtype": "bfloat16"},
        store={"uri": (folder / "store").as_uri(), "cache": str(folder / "cache")},
        adapter=None,
        rag_adapter=None,
        index=None,
        limits={"request_timeout_s": 270, "max_new_tokens": 3000},
        engine={"max_running": 8, "context_length": 4096, "kv_cache_mib": 512},
        llama={"num_cpus": 0.5, "threads": 1, "min_replicas": 1, "max_replicas": 2},
        scaling=SCALING,
    )  # fmt: skip
    yield served
    cluster.close()


def check_whole(finished):
    for seen in finished:
        assert (seen.status, seen.error, seen.broken) == (200, None, None), seen
        assert seen.done is not None


def tokens_in(seconds, app, streams):
    """Return how many tokens each of so many streams has after so many seconds, on this machine."""
    with Streams(app.url, streams, ANSWER) as first:
        time.sleep(1)
    slowest = max(seen.seconds for seen in first.finished)
    return min(1800, int(ANSWER["max_new_tokens"] * seconds / slowest))


def test_a_rolling_update_lets_long_streams_end(app):
    before = {replica["actor_id"] for replica in app.replicas()}
    body = ANSWER | {"max_new_tokens": tokens_in(30, app, streams=3)}
    with Streams(app.url, 3, body) as streams:
        time.sleep(3)
        app.deploy(limits={"request_timeout_s": 270, "max_new_tokens": 2999})
        wait_for(lambda: not before & {replica["actor_id"] for replica in app.replicas()}, 90)
        time.sleep(2)
    check_whole(streams.finished)
    # Streams of half a minute that had begun before the update, and others that began after it.
    assert len(streams.finished) > 3
    assert max(seen.seconds for seen in streams.finished) > 15


def test_replicas_follow_the_load_up_and_down(app):
    assert len(app.replicas()) == 1
    with Streams(app.url, 10, ANSWER | {"max_new_tokens": 600}) as streams:
        wait_for(lambda: len(app.replicas()) == 2, 60)
        time.sleep(5)
    wait_for(lambda: len(app.replicas()) == 1, 60)
    with Streams(app.url, 1, ANSWER) as after:
        time.sleep(1)
    check_whole([*streams.finished, *after.finished])


def test_without_requests_the_last_replica_stops_and_a_request_starts_it(app):
    llama = {"num_cpus": 0.5, "threads": 1, "max_replicas": 2}
    app.deploy(llama=llama | {"min_replicas": 0}, scaling=SCALING | {"downscale_to_zero_delay_s": 3})
    wait_for(lambda: not app.replicas() and health(app).get("status") == "cold", 60)
    assert app.ready()
    answer = httpx.post(f"{app.url}/predict", json=ANSWER | {"max_new_tokens": 5}, timeout=90)
    assert answer.status_code == 200, answer.text
    wait_for(lambda: replicas_reported(app) == 1, 5)
    app.deploy(llama=llama | {"min_replicas": 1}, scaling=SCALING)


def test_a_killed_replica_fails_only_what_was_on_it(app):
    app.deploy(llama={"num_cpus": 0.5, "threads": 1, "min_replicas": 2, "max_replicas": 2})
    wait_for(lambda: len(app.replicas()) == 2 and replicas_reported(app) == 2, 90)
    victim = app.replicas()[0]
    with Streams(app.url, 8, ANSWER) as streams:
        time.sleep(4)
        os.kill(victim["pid"], signal.SIGKILL)
        killed_at = time.monotonic()
        wait_for(lambda: victim["actor_id"] not in {r["actor_id"] for r in app.replicas()}, 45)
        wait_for(lambda: len(app.replicas()) == 2 and replicas_reported(app) == 2, 45)
        back_s = time.monotonic() - killed_at
        time.sleep(3)
    failed = [seen for seen in streams.finished if seen.done is None]
    assert back_s < 45
    assert 1 <= len(failed) <= 8  # of the eight that were on their way
    for seen in failed:
        assert seen.broken is None
        code = seen.error["code"] if seen.error else None
        assert (seen.status, code) in ((200, "replica_lost"), (502, None)), seen
    check_whole([seen for seen in streams.finished if seen.done is not None])


def test_a_whole_answer_of_a_killed_replica_is_a_502(app):
    import threading

    answers = []

    def ask():
        body = ANSWER | {"max_new_tokens": 1000}
        answers.append(httpx.post(f"{app.url}/predict", json=body, timeout=90))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    for replica in app.replicas():
        os.kill(replica["pid"], signal.SIGKILL)
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {502}
    for answer in answers:
        assert answer.json()["code"] == "replica_lost"
        assert "Traceback" not in answer.text
    wait_for(lambda: app.ready() and replicas_reported(app) == 2, 60)


def replicas_reported(app):
    return health(app).get("replicas", 0)


def health(app):
    return httpx.get(f"{app.url}/health", timeout=10).json()


def test_a_key_reaches_every_ingress_and_goes_within_seconds(app):
    store = app.config["applications"][0]["args"]["store"]["uri"]
    app.deploy(llama={"num_cpus": 0.5, "threads": 1, "min_replicas": 1, "max_replicas": 1}, auth={"mode": "keys"})

    def ask(key):
        headers = {"Authorization": f"Bearer {key}"}
        body = ANSWER | {"max_new_tokens": 2}
        return httpx.post(f"{app.url}/predict", json=body, headers=headers, timeout=30).status_code

    def keys(*arguments):
        done = app.run("llama-platform", "keys", *arguments, "--store", store)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[0]

    assert httpx.post(f"{app.url}/predict", json=ANSWER, timeout=30).status_code == 401
    key = keys("create", "ada", "--tenant", "acme")
    wait_for(lambda: ask(key) == 200, 5)
    new = keys("rotate", key.split("_")[1], "--overlap-hours", "0")
    wait_for(lambda: (ask(new), ask(key)) == (200, 401), 5)
    keys("revoke", key.split("_")[1])
    wait_for(lambda: ask(new) == 401, 5)


def test_without_keys_an_application_does_not_listen_elsewhere(app):
    app.config["http_options"]["host"] = "0.0.0.0"
    app.config["applications"][0]["args"]["auth"] = {"mode": "none"}
    app.file.write_text(yaml.safe_dump(app.config))
    app.run("serve", "shutdown", "-y", "--address", app.dashboard)
    done = app.run("serve", "deploy", "--address", app.dashboard, str(app.file))
    assert done.returncode == 0, done.stderr
    wait_for(lambda: app.status()["status"] == "DEPLOY_FAILED", 120)
    assert "auth.allow_open" in app.status()["message"] + str(app.status()["deployments"]["ingress"])
