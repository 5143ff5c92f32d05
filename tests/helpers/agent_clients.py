"""Frameworks that call functions, each as its users write it; a program, so that it runs with packages of its own.

    python agent_clients.py FRAMEWORK http://127.0.0.1:8000/v1 base:NAME QUESTION

It prints a JSON object.
"""

import json
import sys
from typing import Annotated, Literal

from openai import OpenAI
from pydantic import BaseModel, Field

CALLED: list[str] = []


class Person(BaseModel):
    """What an answer has to be."""

    name: Annotated[str, Field(max_length=10)]
    age: Annotated[int, Field(ge=0, le=150)]
    likes: Annotated[list[Literal["tea", "kites"]], Field(max_length=2)]


def get_weather(city: str) -> str:
    """The weather of a city."""
    CALLED.append(city)
    return json.dumps({"sky": "sunny", "degrees": 21})


def by_instructor(url: str, model: str, question: str) -> object:
    import instructor

    found = {}
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        client = instructor.from_openai(OpenAI(base_url=url, api_key="none"), mode=mode)
        asked = [{"role": "user", "content": question}]
        person = client.chat.completions.create(
            model=model, messages=asked, response_model=Person, max_retries=0, max_tokens=150, temperature=1, seed=3
        )
        found[mode.name] = person.model_dump()
    return found


def by_llama_index(url: str, model: str, question: str) -> object:
    from llama_index.core.prompts import PromptTemplate
    from llama_index.llms.openai_like import OpenAILike

    llm = OpenAILike(
        model=model, api_base=url, api_key="none", is_chat_model=True, is_function_calling_model=True,
        max_tokens=150, temperature=1, context_window=1024, additional_kwargs={"seed": 3},
    )  # fmt: skip
    return llm.structured_predict(Person, PromptTemplate("{question}"), question=question).model_dump()


def by_pydantic_ai(url: str, model: str, question: str) -> object:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=url, api_key="none")
    chat = OpenAIChatModel(model, provider=provider, settings={"temperature": 0, "max_tokens": 100})
    agent = Agent(chat, tools=[get_weather])
    typed = Agent(chat, output_type=Person)
    answer = agent.run_sync(question).output
    person = typed.run_sync("Who are you?", model_settings={"temperature": 1, "seed": 3}).output
    return {"answer": answer, "called": CALLED, "person": person.model_dump()}


FRAMEWORKS = {
    "instructor": by_instructor, "llama_index": by_llama_index, "pydantic_ai": by_pydantic_ai,
}  # fmt: skip

if __name__ == "__main__":
    framework, url, model, question = sys.argv[1:]
    print(json.dumps(FRAMEWORKS[framework](url, model, question)))
