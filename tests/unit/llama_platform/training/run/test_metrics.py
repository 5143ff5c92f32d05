from llama_platform.training.run.metrics import StepMetrics, StepTimer


def test_the_line_says_what_people_look_for():
    line = StepMetrics(5, 100, 1.2345, 2e-4, 0.5, 1234.5, 61).line()
    assert line == "step 5/100  loss 1.234  lr 2.0e-04  1,234 tokens/s  ETA 0:01:01"


def test_the_timer_counts_from_its_own_start():
    timer = StepTimer(first_step=50, steps=100)
    speed, eta = timer.measure(51, 1000)
    assert speed > 0
    assert eta >= 0
    assert timer.measure(100, 1000)[1] == 0
