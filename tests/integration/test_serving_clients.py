"""Clients that people use, as they come, against the served application; and a fuzzer over its own description."""

import asyncio
import json
import subprocess
import sys
from typing import Annotated, Literal

import litellm
import openai
import pytest
from pydantic import BaseModel, Field

pytestmark = pytest.mark.integration
MODEL = "base:assistant"
QUESTION = [{"role": "user", "content": "Who are you?"}]


@pytest.fixture(scope="module")
def sdk(app):
    return openai.OpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0)


def test_openai_chats_and_streams(sdk):
    whole = sdk.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=20)
    stream = sdk.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=20, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    *pieces, last = list(stream)
    assert "".join(p.choices[0].delta.content or "" for p in pieces).strip() == whole.choices[0].message.content
    assert last.usage.total_tokens == whole.usage.total_tokens
    completion = sdk.completions.create(model="base", prompt="The", max_tokens=3, temperature=0, echo=True, logprobs=2)
    assert completion.choices[0].text.startswith("The")
    assert MODEL in [model.id for model in sdk.models.list()]


def test_openai_async_answers_at_once_and_can_leave(app):
    async def story():
        async with openai.AsyncOpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0) as sdk:
            answers = await asyncio.gather(
                *(sdk.chat.completions.create(model=MODEL, messages=QUESTION, max_tokens=10) for _ in range(8))
            )
            assert all(answer.choices[0].finish_reason in ("stop", "length") for answer in answers)
            stream = await sdk.chat.completions.create(
                model="base", messages=QUESTION, max_tokens=400, stream=True, extra_body={"ignore_eos": True}
            )
            async for _ in stream:
                await stream.close()
                break
        for _ in range(100):
            if (app.admin("GET", "/adapters"), _health(app)["running"])[1] == 0:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the slot is still taken")

    asyncio.run(story())


def _health(app):
    import httpx

    return httpx.get(f"{app.url}/health", timeout=10).json()


def test_openai_knows_our_errors(sdk):
    with pytest.raises(openai.NotFoundError, match="no model 'gpt-4'"):
        sdk.chat.completions.create(model="gpt-4", messages=QUESTION)
    with pytest.raises(openai.BadRequestError) as error:
        sdk.chat.completions.create(model=MODEL, messages=QUESTION, temperature=3)
    assert error.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="tools"):
        sdk.chat.completions.create(
            model=MODEL, messages=QUESTION, tools=[{"type": "web_search", "function": {"name": "f"}}]
        )


class Person(BaseModel):
    """What clients ask an answer to be."""

    name: Annotated[str, Field(max_length=10)]
    age: Annotated[int, Field(ge=0, le=150)]
    likes: Annotated[list[Literal["tea", "kites"]], Field(max_length=2)]


def test_openai_parses_an_answer_of_a_schema(sdk):
    for seed in range(5):
        done = sdk.chat.completions.parse(
            model=MODEL, messages=QUESTION, response_format=Person, max_tokens=100, temperature=1, seed=seed
        )
        assert isinstance(done.choices[0].message.parsed, Person)
    asked = {"model": MODEL, "messages": QUESTION, "max_tokens": 100, "temperature": 1, "seed": 7}
    schema = {"type": "json_schema", "json_schema": {"name": "p", "schema": Person.model_json_schema()}}
    whole = sdk.chat.completions.create(**asked, response_format=schema)
    pieces = sdk.chat.completions.create(**asked, response_format=schema, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text == whole.choices[0].message.content
    assert Person.model_validate_json(text)


def test_an_answer_that_is_cut_says_so(sdk):
    done = sdk.chat.completions.create(
        model=MODEL, messages=QUESTION, response_format={"type": "json_object"}, max_tokens=2
    )
    assert done.choices[0].finish_reason == "length"


def test_vllms_fields(sdk):
    for field in ({"guided_choice": ["yes", "no"]}, {"structured_outputs": {"choice": ["yes", "no"]}}):
        done = sdk.chat.completions.create(model=MODEL, messages=QUESTION, extra_body=field)
        assert done.choices[0].message.content in ("yes", "no")


def test_langchain_with_structured_output(app):
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, base_url=f"{app.url}/v1", api_key="none", temperature=1, max_tokens=100, seed=3)
    assert isinstance(chat.with_structured_output(Person, method="json_schema").invoke("Who are you?"), Person)


def test_litellm(app):
    options = {"model": f"openai/{MODEL}", "api_base": f"{app.url}/v1", "api_key": "none", "messages": QUESTION}
    whole = litellm.completion(**options, temperature=0, max_tokens=20)
    pieces = litellm.completion(**options, temperature=0, max_tokens=20, stream=True)
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
    assert text.strip() == whole.choices[0].message.content


def test_langchain(app):
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, base_url=f"{app.url}/v1", api_key="none", temperature=0, max_tokens=20)
    whole = chat.invoke("Who are you?")
    assert whole.content
    assert whole.usage_metadata["output_tokens"] > 0
    assert "".join(piece.content for piece in chat.stream("Who are you?")).strip() == whole.content


def test_curl_streams(app):
    body = json.dumps({"prompt": "Who are you?", "temperature": 0, "max_new_tokens": 5, "stream": True})
    done = subprocess.run(
        ["curl", "-sSN", f"{app.url}/predict", "-H", "Content-Type: application/json", "-d", body],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.count("event: token") >= 1
    assert done.stdout.count("event: done") == 1


def test_a_fuzzer_finds_no_failure_of_ours(app, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{app.url}/openapi.json", "--max-examples=4",
         "--checks=not_a_server_error", "--phases=fuzzing", "--request-timeout=25",
         "--exclude-path-regex=^/admin", "--seed=1", "--suppress-health-check=all", "--no-color"],
        capture_output=True, text=True, timeout=280, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
