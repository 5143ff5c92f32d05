from route_requests import chunks, complete


def test_a_completion_goes_on_with_its_prompt(http):
    answer = complete(http, max_tokens=5, echo=True, logprobs=2, prompt=["Once upon", "The"]).json()
    first, second = answer["choices"]
    assert first["text"].startswith("Once upon")
    assert second["text"].startswith("The")
    found = first["logprobs"]
    assert (found["tokens"][0], found["token_logprobs"][0], found["top_logprobs"][0]) == ("<s>", None, None)
    assert "".join(found["tokens"][1:]) == first["text"]
    for offset, token in list(zip(found["text_offset"], found["tokens"], strict=True))[1:]:
        assert first["text"][offset : offset + len(token)] == token
    assert answer["usage"]["prompt_tokens"] == len(found["tokens"]) - 5 + len(second["logprobs"]["tokens"]) - 5


def test_a_prompt_can_be_scored_without_an_answer(http, tiny_template):
    ids = tiny_template.encode_text("Once upon a time")[1:]
    answer = complete(http, prompt=ids, max_tokens=0, echo=True, logprobs=1).json()
    (choice,) = answer["choices"]
    assert choice["text"] == "Once upon a time"
    assert len(choice["logprobs"]["tokens"]) == len(ids)
    assert answer["usage"] | {"prompt_tokens_details": None} == {
        "prompt_tokens": len(ids), "completion_tokens": 0, "total_tokens": len(ids), "prompt_tokens_details": None,
    }  # fmt: skip


def test_a_streamed_completion_is_the_same_text(http):
    whole = complete(http, max_tokens=8).json()["choices"][0]["text"]
    assert "".join(c["choices"][0]["text"] for c in chunks(complete(http, max_tokens=8, stream=True))) == whole


def test_the_usage_of_a_scored_prompt_is_the_same_in_a_stream(http):
    body = {"max_tokens": 0, "echo": True}
    whole = complete(http, **body).json()["usage"]
    streamed = chunks(complete(http, **body, stream=True, stream_options={"include_usage": True}))[-1]["usage"]
    assert streamed == whole
    assert whole["completion_tokens"] == 0
