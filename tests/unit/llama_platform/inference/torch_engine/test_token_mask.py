"""Masks keep every answer within its structure, whatever the model would say: random logits, random schemas."""

import json
import re

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_platform.inference.protocol import SamplingParams
from llama_platform.inference.structure import Structure, choice, json_schema
from llama_platform.inference.torch_engine.sampler import Sampler
from llama_platform.inference.torch_engine.token_mask import TokenMasks

SPARE = 40
"""Tokens that the model has beyond the tokenizer's, as padded vocabularies have."""


@pytest.fixture(scope="module")
def tokenizer(tiny_template):
    return tiny_template.tokenizer


@pytest.fixture(scope="module")
def masks(tokenizer):
    made = TokenMasks(tokenizer, len(tokenizer) + SPARE, frozenset({tokenizer.eos_token_id}))
    yield made
    made.close()


def write(masks, tokenizer, structure, seed=0, most=400, **sampling):
    """Return the text that random logits give under a structure, and whether it ended."""
    end, noise = tokenizer.eos_token_id, np.random.default_rng(seed)
    params = SamplingParams(seed=seed, structure=structure, max_new_tokens=most, **{"temperature": 1.0, **sampling})
    sampler, ids = Sampler(params, (1, 2), [end], masks.make(structure)), []
    while len(ids) < most:
        token, _ = sampler.choose(torch.from_numpy(noise.normal(0, 3, len(tokenizer) + SPARE).astype(np.float32)))
        if token == end:
            return tokenizer.decode(ids), True
        ids.append(token)
        if sampler.ended:
            return tokenizer.decode(ids), True
    return tokenizer.decode(ids), False


SCALARS = st.sampled_from(
    [
        {"type": "boolean"},
        {"type": "null"},
        {"type": "integer", "minimum": -5, "maximum": 2000},
        {"type": "string", "maxLength": 6},
        {"enum": ["red", "green", 3, None]},
        {"const": {"a": [1]}},
        {"type": "string", "pattern": "^[a-c]{2,4}$"},
        {"type": "string", "format": "date"},
    ]
)


def objects(inner):
    return st.dictionaries(st.sampled_from(["name", "age", "ü", "a b"]), inner, min_size=1, max_size=3).map(
        lambda found: {
            "type": "object", "properties": found, "required": sorted(found)[:2], "additionalProperties": False,
        }
    )  # fmt: skip


def arrays(inner):
    return inner.map(lambda found: {"type": "array", "items": found, "minItems": 1, "maxItems": 2})


SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        objects(inner), arrays(inner), st.lists(inner, min_size=1, max_size=2).map(lambda found: {"anyOf": found})
    ),
    max_leaves=5,
)


@settings(max_examples=1000, deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 10**6), sampling=st.sampled_from([{}, {"temperature": 0}, {"top_p": 0.5}, {"top_k": 3}, {"repetition_penalty": 1.5}, {"frequency_penalty": 1.0}, {"min_new_tokens": 8}]))  # fmt: skip
def test_every_answer_that_ends_is_valid(masks, tokenizer, schema, seed, sampling):
    text, ended = write(masks, tokenizer, json_schema(schema), seed, **sampling)
    if ended:
        jsonschema.validate(json.loads(text), schema)
    else:  # it ran out of tokens, and is the beginning of JSON
        assert text[0] in '{["-0123456789tfn'


def test_most_answers_end(masks, tokenizer):
    schema = json_schema(
        {
            "type": "object",
            "properties": {"a": {"type": "string", "maxLength": 8}},
            "required": ["a"],
            "additionalProperties": False,
        }
    )
    assert all(write(masks, tokenizer, schema, seed)[1] for seed in range(50))


@pytest.mark.parametrize("seed", range(10))
def test_expressions_and_choices(masks, tokenizer, seed):
    text, ended = write(masks, tokenizer, Structure("regex", "[A-Z]{3}-[0-9]{2}"), seed)
    assert ended
    assert re.fullmatch("[A-Z]{3}-[0-9]{2}", text)
    texts = ["yes", "no", 'a "quoted" text']
    assert write(masks, tokenizer, choice(texts), seed)[0] in texts


def test_tokens_beyond_the_tokenizers_are_never_allowed(masks, tokenizer):
    allowed = masks.make(Structure("regex", "(?s:.*)")).allowed()
    assert len(allowed) == len(tokenizer) + SPARE
    assert not allowed[len(tokenizer) :].any()
    assert allowed.sum() > 100


def test_an_end_that_is_barred_is_taken_where_nothing_else_may_follow(masks, tokenizer):
    text, ended = write(masks, tokenizer, choice(["yes"]), min_new_tokens=50)
    assert (text, ended) == ("yes", True)
