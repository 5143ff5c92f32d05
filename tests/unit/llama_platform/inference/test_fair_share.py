from llama_platform.inference.fair_share import FairShare


def test_who_has_used_least_is_next_and_a_weight_makes_it_less():
    share = FairShare()
    share.arrive("a")
    share.arrive("b")
    share.charge("a", 1.0, prompt_tokens=100)
    share.charge("b", 4.0, prompt_tokens=100, answer_tokens=50)
    assert (share.used("a"), share.used("b")) == (100.0, 50.0)


def test_nobody_saves_up_turns_while_it_is_idle():
    share = FairShare()
    for tenant in "ab":
        share.arrive(tenant)
    share.charge("a", 1.0, prompt_tokens=1000)
    share.charge("b", 1.0, prompt_tokens=10)
    share.leave("b")
    share.charge("a", 1.0, prompt_tokens=1000)
    share.arrive("b")
    assert share.used("b") == share.used("a") == 2000.0
    share.arrive("new")
    assert share.used("new") == 2000.0


def test_who_was_served_much_does_not_lose_its_count_by_a_short_pause():
    share = FairShare()
    for tenant in "ab":
        share.arrive(tenant)
    share.charge("a", 1.0, prompt_tokens=1000)
    share.leave("a")
    share.arrive("a")
    assert share.used("a") == 1000.0
    assert share.used("b") == 0.0


def test_when_all_have_gone_it_begins_anew():
    share = FairShare()
    share.arrive("a")
    share.charge("a", 1.0, answer_tokens=5)
    share.leave("a")
    assert share.used("a") == 0.0
