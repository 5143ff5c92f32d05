from contextlib import ExitStack

import pytest

from llama_platform.errors import OverloadedError
from serve_apps.generation.places import Places


def test_beyond_what_the_engines_run_and_let_wait_answers_are_refused_at_once():
    places = Places(lambda: 2, running=2, waiting=3)
    with ExitStack() as held:
        for _ in range(9):
            held.enter_context(places.taken("", 1))
        with pytest.raises(OverloadedError, match="9 answers are on their way already"), places.taken("", 2):
            pass
        held.enter_context(places.taken("", 1))
    with places.taken("", 10):
        pass


def test_a_tenant_has_half_of_the_places_to_wait():
    places = Places(lambda: 1, running=1, waiting=4)
    with places.taken("a", 3):
        with pytest.raises(OverloadedError, match="3 answers of this tenant"), places.taken("a", 1):
            pass
        with places.taken("b", 2), pytest.raises(OverloadedError, match="5 answers are"), places.taken("c", 1):
            pass


def test_without_a_replica_requests_wait_for_one():
    places = Places(lambda: 0, running=1, waiting=0)
    with places.taken("a", 5), places.taken("b", 5):
        pass


def test_a_replica_more_is_room_for_more_at_once():
    ready = [1]
    places = Places(lambda: ready[0], running=1, waiting=0)
    with places.taken("", 1):
        with pytest.raises(OverloadedError), places.taken("", 1):
            pass
        ready[0] = 2
        with places.taken("", 1):
            pass


def test_a_request_that_fails_gives_its_place_back():
    places = Places(lambda: 1, running=1, waiting=0)
    with pytest.raises(ValueError, match="x"), places.taken("a", 1):
        raise ValueError("x")
    with places.taken("a", 1):
        pass
