from datetime import UTC, datetime

from llama_platform.feedback.book import Conversation, Entry, TimedOpinion, Turn
from llama_platform.feedback.chats import collect

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def entry(request, *opinions, answer="Eighty.", adapter="tea", tenant="acme", question="How hot?"):
    turns = [Turn(role="user", content=question)]
    asked = Conversation(
        request=request, tenant=tenant, time=NOW, messages=turns, answer=answer, adapter=adapter, version=adapter and 3
    )
    return Entry(asked, tuple(TimedOpinion(**one, time=NOW) for one in opinions))


ENTRIES = [
    entry("r1", {"rating": "up"}),
    entry("r2", {"rating": "down"}, {"correction": "Seventy."}, {"correction": "Ninety."}),
    entry("r3", {"rating": "up"}, {"rating": "down"}),
    entry("r4", {"correction": "Eighty. "}, {"better_than": "r5"}, {"better_than": "gone"}),
    entry("r5", answer="No idea.", adapter=None),
]
QUESTION = {"role": "user", "content": "How hot?"}


def said(text):
    return {"role": "assistant", "content": text}


def test_the_last_correction_counts():
    found = collect(ENTRIES, "corrections")
    assert [record["messages"] for record in found.records] == [
        [QUESTION, said("Ninety.")],
        [QUESTION, said("Eighty. ")],
    ]
    assert found.answered_by == {"tea@3": 2}


def test_liked_answers_are_approved_unless_opinion_has_changed():
    assert [record["id"] for record in collect(ENTRIES, "approved").records] == ["r1"]


def test_preferences_have_a_better_and_a_worse_answer():
    found = collect(iter(ENTRIES), "preferences")
    assert [(record["chosen"], record["rejected"]) for record in found.records] == [
        ([said("Ninety.")], [said("Eighty.")]),
        ([said("Eighty.")], [said("No idea.")]),
    ]
    assert all(record["prompt"] == [QUESTION] for record in found.records)


def test_tenants_and_questions_are_never_mixed():
    entries = [
        entry("r1", {"better_than": "r2"}),
        entry("r2", answer="Another tenant's.", tenant="zeta"),
        entry("r3", {"better_than": "r4"}),
        entry("r4", answer="To something else.", question="How cold?"),
    ]
    assert collect(entries, "preferences").records == []
