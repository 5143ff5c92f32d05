from datetime import UTC, date, datetime, timedelta

import pytest
from pydantic import ValidationError

from llama_platform.errors import ConflictError, InputError, IntegrityError, NotFoundError
from llama_platform.feedback.book import Conversation, FeedbackBook, Opinion, Turn
from llama_platform.storage.local import LocalStore

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


@pytest.fixture
def book(store):
    return FeedbackBook(store)


def conversation(request="r1", question="How hot?", answer="Eighty degrees.", **fields):
    turns = [Turn(role="user", content=question)]
    return Conversation(request=request, time=NOW, messages=turns, answer=answer, **{"tenant": "acme", **fields})


def test_a_conversation_and_what_is_said_of_it(book):
    kept = conversation(user="ada", adapter="tea", version=3)
    book.keep(kept)
    first = book.add("acme", "r1", Opinion(rating="down", tags=["wrong"]))
    second = book.add("acme", "r1", Opinion(correction="Ninety degrees."))
    assert first != second
    entry = book.find("acme", "r1")
    assert entry.conversation == kept
    assert [(one.rating, one.correction) for one in entry.opinions] == [("down", None), (None, "Ninety degrees.")]
    assert list(book.entries()) == list(book.entries("acme")) == [entry]
    assert list(book.entries("others")) == []


@pytest.mark.parametrize("request_id", ["r2", "../../keys", "..", "", "a/b"])
def test_what_is_not_kept_is_not_found(book, request_id):
    book.keep(conversation())
    with pytest.raises(NotFoundError):
        book.add("acme", request_id, Opinion(rating="up"))
    with pytest.raises(NotFoundError):
        book.add("others", "r1", Opinion(rating="up"))


def test_answers_are_compared_with_others_to_the_same(book):
    for request, question in (("r1", "How hot?"), ("r2", "How hot?"), ("r3", "How cold?")):
        book.keep(conversation(request, question))
    assert book.add("acme", "r1", Opinion(better_than="r2"))
    with pytest.raises(InputError, match="asked something else"):
        book.add("acme", "r1", Opinion(better_than="r3"))
    with pytest.raises(NotFoundError, match="r9"):
        book.add("acme", "r1", Opinion(better_than="r9"))


def test_users_are_forgotten_with_all_that_is_said(book, store):
    for request, user in (("r1", "ada"), ("r2", "bob"), ("r3", "ada")):
        book.keep(conversation(request, user=user))
        book.add("acme", request, Opinion(rating="up"))
    book.keep(conversation("r4", user="ada", tenant="others"))
    assert book.forget("ada", "acme") == 2
    assert [entry.conversation.request for entry in book.entries()] == ["r2", "r4"]
    assert book.forget("ada") == 1
    assert book.forget("nobody") == 0
    assert all("r2" in key for key in store.list_keys("feedback/"))
    with pytest.raises(InputError, match="nobody's"):
        book.forget("")


def test_conversations_expire(book):
    for days in (0, 5, 10):
        book.keep(conversation(f"r{days}").model_copy(update={"time": NOW - timedelta(days=days)}))
    assert book.expire(date(2026, 11, 22)) == 1
    assert [entry.conversation.request for entry in book.entries()] == ["r0", "r5"]


def test_a_request_is_kept_once(book):
    """What is said of an answer is never of another: clients may send an id again."""
    book.keep(conversation())
    book.add("acme", "r1", Opinion(rating="up"))
    for again in (conversation(answer="Something else."), conversation(user="bob")):
        with pytest.raises(ConflictError, match="already"):
            book.keep(again)
    assert book.find("acme", "r1").conversation.answer == "Eighty degrees."
    assert book.forget("bob") == 0


@pytest.mark.parametrize(("tenant", "request_id"), [("Acme Corp", "_abc"), ("..", ".x"), ("a/b", "--x")])
def test_any_name_is_kept_under_a_key_of_its_own(book, store, tenant, request_id):
    book.keep(conversation(request_id, tenant=tenant))
    book.add(tenant, request_id, Opinion(rating="up"))
    assert [entry.conversation.tenant for entry in book.entries(tenant)] == [tenant]
    assert all(key.count("/") == 3 and ".." not in key for key in store.list_keys("feedback/"))


def test_what_is_deleted_meanwhile_is_passed_over_and_leaves_nothing_behind(book, store):
    for request in ("r1", "r2"):
        book.keep(conversation(request, user="ada"))
        book.add("acme", request, Opinion(correction="Ada's address"))
    entries = book.entries()
    assert next(entries).conversation.request == "r1"
    late = next(key for key in store.list_keys("feedback/acme/r2/") if "opinion" in key)
    said = store.read(late).content
    assert book.forget("ada") == 2
    assert list(entries) == []
    store.write(late, said)  # somebody was saying it while it was deleted
    assert book.forget("ada") == 0
    assert list(store.list_keys("feedback/")) == []


def test_an_opinion_says_something(book):
    for fields in ({}, {"correction": " "}, {"rating": "sideways"}, {"colour": 1}, {"tags": ["x"] * 17}):
        with pytest.raises(ValidationError):
            Opinion(**fields)


def test_damage_is_told(book, store):
    book.keep(conversation())
    (key,) = store.list_keys("feedback/")
    store.write(key, b"{")
    with pytest.raises(IntegrityError, match="feedback/acme/r1"):
        list(book.entries())
