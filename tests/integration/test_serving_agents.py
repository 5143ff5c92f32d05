"""An adapter that has learned to call a function, and frameworks that use it: whole, streamed, in loops of two turns."""

import json
import random
import subprocess
from pathlib import Path

import httpx
import litellm
import openai
import pytest

from agent_clients import Person, get_weather
from llama_platform.artifacts.aliases import Aliases
from ray_nodes import wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
FRAMEWORKS = ROOT / ".cache/clients/bin/python"
CITIES = ["Rome", "Paris", "Oslo", "Cairo", "Lima", "Tokyo"]
QUESTIONS = [
    "What is the weather in {}?", "How is the weather in {} today?", "Tell me the weather in {}.", "Is it warm in {}?",
    "Do I need a coat in {}?", "{}: what is the weather?", "Weather in {}, please.", "How warm is it in {} now?",
]  # fmt: skip
GREETINGS = ["Hello!", "Who are you?", "Thank you.", "Good morning.", "Can you help me?", "Goodbye."]
ASKED = "What is the weather in Oslo?"
ANSWER = "It is sunny in Oslo, with 21 degrees."
MODEL = "base:agent"
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def call_of(city):
    return {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": json.dumps({"city": city})}}


def dialogues():
    choose, rows = random.Random(1), []
    for question in QUESTIONS:
        for city in CITIES * 3:
            sky, degrees = choose.choice(["sunny", "cloudy", "rainy", "windy"]), choose.randint(10, 35)
            rows.append([
                {"role": "user", "content": question.format(city)},
                {"role": "assistant", "content": None, "tool_calls": [call_of(city)]},
                {"role": "tool", "tool_call_id": "c", "content": json.dumps({"sky": sky, "degrees": degrees})},
                {"role": "assistant", "content": f"It is {sky} in {city}, with {degrees} degrees."},
            ])  # fmt: skip
    for greeting in GREETINGS * 4:
        answer = {"role": "assistant", "content": "Hello. Ask me for the weather of a city."}
        rows.append([{"role": "user", "content": greeting}, answer])
    choose.shuffle(rows)
    return [{"tools": [TOOL], "messages": messages} for messages in rows]


@pytest.fixture(scope="module")
def agent(app, submit, repository, tmp_path_factory):
    """URL of an application whose adapter `agent` was trained on dialogues with a tool."""
    file = tmp_path_factory.mktemp("agent") / "agent.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in dialogues()))
    config = ("--config", "jobs/configs/tiny_lora_cpu.yaml")
    settings = {"data.name": "agent", "adapter.name": "agent", "data.sources": f"[{file}]"}
    prepared = submit("python", "-m", "jobs.prepare_data", *config, **settings)
    assert prepared.returncode == 0, prepared.stdout[-3000:] + prepared.stderr[-2000:]
    more = {
        "training.run_id": "agent-1", "training.epochs": 40, "training.max_steps": 220,
        "training.accumulation_steps": 1, "training.learning_rate": 0.003,
    }  # fmt: skip
    tuned = submit("python", "-m", "jobs.finetune", *config, **settings, **more)
    assert tuned.returncode == 0, tuned.stdout[-3000:] + tuned.stderr[-2000:]
    version = repository.latest("adapter", "agent")
    Aliases(repository, "adapter", "agent").promote("production", version.version)
    url = f"{app.url}/v1"
    wait_for(lambda: httpx.get(f"{url}/models/{MODEL}", timeout=10).status_code == 200, 30)
    return url


@pytest.fixture(scope="module")
def sdk(agent):
    return openai.OpenAI(base_url=agent, api_key="none", max_retries=0)


def test_a_loop_of_two_turns(sdk):
    right = 0
    for city in CITIES:
        messages = [{"role": "user", "content": f"How warm is it in {city} now?"}]
        asked = {"model": MODEL, "tools": [TOOL], "temperature": 0, "max_tokens": 60}
        first = sdk.chat.completions.create(messages=messages, **asked).choices[0]
        assert first.finish_reason == "tool_calls"
        (call,) = first.message.tool_calls
        right += json.loads(call.function.arguments) == {"city": city}
        result = {"role": "tool", "tool_call_id": call.id, "content": get_weather(city)}
        messages += [first.message.model_dump(exclude_none=True), result]
        second = sdk.chat.completions.create(messages=messages, **asked).choices[0]
        assert second.finish_reason == "stop"
        assert second.message.tool_calls is None
        right += second.message.content == f"It is sunny in {city}, with 21 degrees."
    assert right >= 10  # of 12; a tiny model may mistake a city


def test_it_does_not_call_for_a_greeting(sdk):
    done = sdk.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Hello!"}], tools=[TOOL], temperature=0, max_tokens=60
    )
    assert done.choices[0].finish_reason == "stop"
    assert done.choices[0].message.content.startswith("Hello.")


def test_a_stream_is_equal_to_the_whole(sdk):
    asked = {"model": MODEL, "tools": [TOOL], "temperature": 0, "max_tokens": 60}
    messages = [{"role": "user", "content": ASKED}]
    whole = sdk.chat.completions.create(messages=messages, **asked).choices[0].message.tool_calls[0]
    with sdk.chat.completions.stream(messages=messages, **asked) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    assert final.finish_reason == "tool_calls"
    assert final.message.tool_calls[0].function.arguments == whole.function.arguments
    assert final.message.tool_calls[0].function.name == "get_weather"


def test_langchain(agent):
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, base_url=agent, api_key="none", temperature=0, max_tokens=60)
    bound = chat.bind_tools([tool(get_weather)])
    messages = [HumanMessage(ASKED)]
    first = bound.invoke(messages)
    assert first.tool_calls[0]["args"] == {"city": "Oslo"}
    result = ToolMessage(get_weather("Oslo"), tool_call_id=first.tool_calls[0]["id"])
    assert bound.invoke([*messages, first, result]).content == ANSWER
    pieces = None
    for piece in bound.stream(messages):
        pieces = piece if pieces is None else pieces + piece
    assert pieces.tool_calls[0]["args"] == {"city": "Oslo"}
    creative = ChatOpenAI(model=MODEL, base_url=agent, api_key="none", temperature=1, max_tokens=150, seed=3)
    person = creative.with_structured_output(Person, method="function_calling").invoke("Who are you?")
    assert isinstance(person, Person)


def test_litellm(agent):
    options = {"model": f"openai/{MODEL}", "api_base": agent, "api_key": "none", "temperature": 0, "max_tokens": 60}
    messages = [{"role": "user", "content": ASKED}]
    whole = litellm.completion(messages=messages, tools=[TOOL], **options).choices[0]
    assert whole.finish_reason == "tool_calls"
    assert json.loads(whole.message.tool_calls[0].function.arguments) == {"city": "Oslo"}
    chunks = list(litellm.completion(messages=messages, tools=[TOOL], stream=True, **options))
    built = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls[0]
    assert json.loads(built.function.arguments) == {"city": "Oslo"}


def framework(name, agent, question):
    if not FRAMEWORKS.exists():
        pytest.skip(f"{name} is not installed: make .cache/clients/.done")
    program = ROOT / "tests/helpers/agent_clients.py"
    done = subprocess.run(
        [FRAMEWORKS, program, name, agent, MODEL, question], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_instructor(agent):
    found = framework("instructor", agent, "Who are you?")
    assert set(found) == {"TOOLS", "JSON_SCHEMA"}
    for person in found.values():
        assert Person.model_validate(person)


def test_llama_index(agent):
    assert Person.model_validate(framework("llama_index", agent, "Who are you?"))


def test_pydantic_ai(agent):
    found = framework("pydantic_ai", agent, ASKED)
    assert (found["called"], found["answer"]) == (["Oslo"], ANSWER)
    assert Person.model_validate(found["person"])
