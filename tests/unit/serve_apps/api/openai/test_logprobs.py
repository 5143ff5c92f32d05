import json

import pytest

from llama_platform.inference.protocol import FinishEvent, Timings, TokenEvent, TokenLogprob, Usage


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("echo", [False, True])
def test_offsets_count_characters_of_the_text(http, monkeypatch, tiny_template, stream, echo):
    if stream and echo:
        return  # refused: the prompt's log-probabilities come last
    text = " Grüße 😀 done"
    ids = tiny_template.tokenizer(text, add_special_tokens=False)["input_ids"]

    async def generate(requests, adapter):
        scores = [TokenLogprob(token, -1.0) for token in ids]
        half = len(ids) // 2
        prompt = tuple(TokenLogprob(token, -1.0) for token in requests[0].prompt_ids[1:]) if echo else ()
        yield [(0, TokenEvent("", tuple(ids[:half]), tuple(scores[:half])))]
        yield [(0, TokenEvent(text, tuple(ids[half:]), tuple(scores[half:])))]
        yield [(0, FinishEvent("stop", Usage(1, len(ids)), Timings(0.0, 0.0, 0.0), None, prompt))]

    monkeypatch.setattr(http.generator, "generate", generate)
    body = {"model": "base", "prompt": "мир!", "logprobs": 0, "stream": stream, "echo": echo}
    response = http.post("/v1/completions", body)
    if stream:
        blocks = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: {")]
        choices = [block["choices"][0] for block in blocks]
    else:
        choices = [response.json()["choices"][0]]
    whole = "".join(choice["text"] for choice in choices)
    found = [choice["logprobs"] for choice in choices if choice["logprobs"]]
    offsets = [place for one in found for place in one["text_offset"]]
    tokens = [token for one in found for token in one["tokens"]]
    assert whole == ("мир!" if echo else "") + text
    assert offsets == sorted(offsets)
    for place, token in zip(offsets, tokens, strict=True):
        if "\ufffd" not in token and token != "<s>":
            assert whole[place : place + len(token)] == token
