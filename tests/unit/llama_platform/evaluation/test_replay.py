"""What cannot be replayed; that answers come again as they were is tested over HTTP, tests/integration/test_serving_audit.py."""

import json
from dataclasses import asdict

import pytest

from llama_platform.artifacts.location import StoreConfig, repository_from
from llama_platform.audit.journal import Journal
from llama_platform.errors import InputError, IntegrityError, NotFoundError
from llama_platform.evaluation.replay import recorded_sampling, replay_requests
from llama_platform.inference.protocol import SamplingParams
from llama_platform.inference.structure import choice

SAMPLING = {**{name: getattr(SamplingParams(), name) for name in SamplingParams.__slots__}, "temperature": 0}
SAMPLING |= {"max_new_tokens": 6, "stop": ["### Human:"]}


@pytest.fixture
def repository(tmp_path):
    return repository_from(StoreConfig(uri=str(tmp_path / "store"), cache=tmp_path / "cache"), {})


@pytest.fixture
def record(repository, tmp_path, tiny_config, tiny_template):
    """Write a request to the trail; its answer of then is made up."""

    def record(request_id="r1", start=True, fingerprint=None, sampling=None, generations=None, **facts):
        journal = Journal(tmp_path / "audit", f"w-{request_id}")
        if start:
            journal.append("start", {"base": tiny_config.model_dump(mode="json")})
        ids = tiny_template.tokenizer.encode("hello")
        said = {
            "prompt_ids": ids,
            "answer": "made up",
            "continues": False,
            "sampling": {**SAMPLING, **(sampling or {})},
        }
        known = {
            "request": request_id, "status": 200, "outcome": "length", "safety": {},
            "prompt_fingerprint": fingerprint or tiny_template.fingerprint(),
            "generations": [said] if generations is None else generations,
        }  # fmt: skip
        journal.append("request", {**known, **facts})
        journal.close(repository.store)

    return record


def test_an_answer_that_is_another_is_reported(record, repository):
    record()
    record("r2", sampling={"temperature": 1.0, "seed": 3})
    first, again = ([*replay_requests(repository, ["r1", "r2"])] for _ in range(2))
    assert [report.same for report in first] == [False, False]
    assert first[0].then == ("made up",)
    assert [report.now for report in first] == [report.now for report in again]  # greedy, and with a seed


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"start": False}, "what its process served is not kept"),
        ({"generations": []}, "no model has answered it"),
        ({"status": 503}, "no model has answered it"),
        ({"sampling": {"temperature": 0.7}}, "drawn at random, without a seed"),
        ({"safety": {"output:names:redact": 1}}, "rules of safety have changed its answers"),
        ({"outcome": "client_gone"}, "its client left"),
    ],
)
def test_what_cannot_come_again_is_said(record, repository, facts, said):
    record(**facts)
    with pytest.raises(InputError, match=said):
        list(replay_requests(repository, ["r1"]))


def test_what_is_another_now_is_said(record, repository):
    record(fingerprint="f" * 64)
    with pytest.raises(IntegrityError, match="its prompts had another form"):
        list(replay_requests(repository, ["r1"]))
    record("r2", adapter="support", version=1, digest="d" * 64)
    with pytest.raises(NotFoundError, match="support"):
        list(replay_requests(repository, ["r2"]))


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(stop=("a", "b"), logit_bias=((5, 1.5), (9, -100.0)), structure=choice(["yes", "no"]), seed=3),
    ],
)
def test_what_a_record_keeps_of_the_sampling_is_all_of_it(sampling):
    assert recorded_sampling(json.loads(json.dumps(asdict(sampling)))) == sampling


def test_records_of_before_have_the_defaults_of_what_came_since():
    assert recorded_sampling({"stop": [], "temperature": 0.0}) == SamplingParams(temperature=0.0)
