"""Requests and readings of responses that tests of the routes share."""

import json

CHAT = "/v1/chat/completions"


def chat(http, **fields):
    body = {"model": "base:support", "messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0}
    return http.post(CHAT, body | {"max_tokens": 12} | fields)


def complete(http, **fields):
    return http.post("/v1/completions", {"model": "base", "prompt": "Once upon", "temperature": 0, **fields})


def chunks(response):
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def predict(http, **fields):
    return http.post("/predict", {"prompt": "Who are you?", "temperature": 0, "max_new_tokens": 12, **fields})


def events(response):
    text = getattr(response, "text", response)
    blocks = [block for block in text.strip().split("\n\n") if not block.startswith(":")]
    return [
        (b.split("\n")[0].removeprefix("event: "), json.loads(b.split("\n")[1].removeprefix("data: "))) for b in blocks
    ]


def prompt_of(http, tiny_template):
    (requests, _), *_ = http.generator.asked[-1:]
    return tiny_template.tokenizer.decode(requests[0].prompt_ids)


def answer_with(http, monkeypatch, texts):
    from llama_platform.inference.protocol import FinishEvent, Timings, TokenEvent, Usage

    async def generate(requests, adapter):
        http.generator.asked.append((requests, adapter))
        for text in texts:
            if isinstance(text, Exception):
                raise text
            yield [(0, TokenEvent(text, (1,)))]
        yield [(0, FinishEvent("stop", Usage(1, 1), Timings(0.0, 0.1, 0.2)))]

    monkeypatch.setattr(http.generator, "generate", generate)
