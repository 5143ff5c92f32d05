from llama_platform.inference.torch_engine.prefill_budget import PrefillBudget


def test_alone_prompts_get_everything_and_beside_streams_what_does_not_stretch_a_step():
    pace = PrefillBudget(limit=512, stretch=1.5, least=16)
    assert pace.tokens(generating=0, pending=1) == 512
    assert pace.tokens(generating=4, pending=1) == 64
    for _ in range(30):
        pace.note(4, 0, 0.010)
        pace.note(4, 50, 0.020)  # 0.2 ms a token
    assert pace.tokens(generating=4, pending=2) == 25  # 5 ms more
    assert pace.tokens(generating=4, pending=6) == 75  # more wait
    assert pace.tokens(generating=1, pending=2) == 50  # more wait than are answered


def test_prompts_always_get_on():
    pace = PrefillBudget(limit=512)
    pace.note(1, 0, 0.001)
    pace.note(1, 16, 1.0)
    assert pace.tokens(generating=1, pending=1) == 16
