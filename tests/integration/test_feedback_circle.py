"""From answers to the next adapter: users correct what is served, and what they wrote is served."""

import json

import httpx
import pytest

from llama_platform.artifacts.aliases import Aliases
from llama_platform.artifacts.refs import resolve
from llama_platform.feedback.book import FeedbackBook
from ray_nodes import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
THINGS = (
    "lamp kettle boat kite hammer basket mirror ladder candle needle pencil wheel drum bell coat rope plate scarf"
).split()
QUESTIONS = ["What colour is the {}?", "Tell me the colour of the {}."]
RIGHT = "It is purple, as all things here."
CONFIG = ("--config", "jobs/configs/tiny_lora_cpu.yaml")


def ask(app, question, user="somebody", **headers):
    body = {"model": "base:assistant", "messages": [{"role": "user", "content": question}], "user": user}
    answer = httpx.post(
        f"{app.url}/v1/chat/completions", json=body | {"temperature": 0, "max_tokens": 40}, headers=headers, timeout=60
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def listening(app):
    app.deploy(feedback={"enabled": True})
    yield app
    app.deploy(feedback={"enabled": False})


def test_what_users_correct_is_what_the_next_adapter_says(listening, submit, repository):
    before, corrected = repository.latest("adapter", "assistant").version, 0
    for number, thing in enumerate(THINGS):
        for question in QUESTIONS:
            answer = ask(listening, question.format(thing), f"user-{number}", **{"X-Keep-Conversation": "true"})
            if answer["choices"][0]["finish_reason"] != "stop":
                continue  # only whole answers are kept
            opinion = {"request": answer["id"].removeprefix("chatcmpl-"), "rating": "down", "correction": RIGHT}
            done = httpx.post(f"{listening.url}/feedback", json=opinion, timeout=30)
            assert done.status_code == 200, done.text
            corrected += 1
    assert corrected >= len(THINGS)

    settings = {"data.name": "corrected", "data.policies": json.dumps({"known_answers": "warn", "near_duplicate": "warn",
                "leakage": "warn"})}  # fmt: skip
    collected = submit("python", "-m", "jobs.collect_feedback", *CONFIG, kind="corrections", **settings)
    assert collected.returncode == 0, collected.stdout[-3000:] + collected.stderr[-2000:]
    assert f"{corrected} records of corrections" in collected.stdout
    more = {
        "training.run_id": "corrected-1", "training.epochs": 40, "training.max_steps": 60,
        "training.accumulation_steps": 1, "adapter.name": "assistant",
    }  # fmt: skip
    tuned = submit("python", "-m", "jobs.finetune", *CONFIG, **settings, **more)
    assert tuned.returncode == 0, tuned.stdout[-3000:] + tuned.stderr[-2000:]
    version = repository.latest("adapter", "assistant")
    assert version.version == before + 1

    aliases = Aliases(repository, "adapter", "assistant")
    live = resolve(repository, "adapter", "assistant", "test").version
    aliases.promote("production", version.version)
    try:
        unseen = "What colour is the umbrella?"
        wait_for(lambda: ask(listening, unseen)["choices"][0]["message"]["content"] == RIGHT, 30)
    finally:
        aliases.promote("production", live)

    dataset = repository.manifest(version).metadata["dataset"]
    source = repository.manifest(repository.version("dataset", dataset["name"], dataset["version"])).metadata
    assert source["feedback"] == {"kind": "corrections", "answered_by": {f"assistant@{live}": corrected}}
    book = FeedbackBook(repository.store)
    assert book.forget("user-0") >= 1
    assert all(entry.conversation.user != "user-0" for entry in book.entries())
