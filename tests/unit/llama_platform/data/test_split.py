from llama_platform.data.split import evenly, leaked, place_of, split, together

KEYS = [f"chat {n}".encode() for n in range(400)]


def test_a_chat_keeps_its_side_when_others_come():
    places = [place_of(key, seed=0) for key in KEYS]
    held_out = split(places, 0.1)
    assert 20 <= sum(held_out) <= 60
    few = split(places[:200], 0.1)
    assert few == held_out[:200]
    assert split([place_of(key, seed=1) for key in KEYS], 0.1) != held_out


def test_both_sides_get_one():
    assert sorted(split([place_of(key, 0) for key in KEYS[:2]], 0.001)) == [False, True]
    assert sorted(split([place_of(key, 0) for key in KEYS[:2]], 0.999)) == [False, True]


def test_leaks_are_held_out_chats_with_a_likeness_on_the_other_side():
    sides = ["eval", "train", "eval", "train", "eval"]
    near = [(0, 1, 0.9), (0, 3, 0.95), (2, 4, 0.99), (1, 3, 0.9), (3, 4, 0.86)]
    assert list(leaked(sides, near)) == [(0, 3, 0.95), (4, 3, 0.86)]


def test_a_bound_takes_a_sample_of_all_and_the_same_each_time():
    keys = [f"chat {n}".encode() for n in range(400)]
    chosen = evenly(keys, 100)
    assert chosen == evenly(keys, 100) == sorted(chosen)
    assert 30 < sum(number < 200 for number in chosen) < 70
    assert evenly(keys[:5], 100) == [0, 1, 2, 3, 4]


def test_chats_that_share_an_answer_by_way_of_others_have_one_place():
    places = [0.1, 0.2, 0.3, 0.4, 0.5]
    assert together(places, [[1], [2], [3, 1], [4], [2, 3]]) == [0.1, 0.1, 0.1, 0.4, 0.1]
    assert together(places, [[n] for n in range(5)]) == places
    assert together(places, [[]] * 5) == places
