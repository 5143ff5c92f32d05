import time

from llama_platform.inference.torch_engine.cpu.products import MEASURED_ROWS, measure


def machine(costs):
    """Return what runs a product in the time that `costs` gives for an implementation and a number of rows."""
    tried = []

    def run(shape, rows, implementation):
        tried.append((shape, rows, implementation))
        end = time.perf_counter() + costs[implementation](rows) / 1e6
        while time.perf_counter() < end:
            pass

    return run, tried


def test_the_faster_one_is_chosen_for_each_number_of_rows():
    run, _ = machine({"vector": lambda rows: 100 * rows, "matrix": lambda _: 600})
    products = measure(["qkv"], "auto", True, run)
    assert [products.choose("qkv", rows) for rows in MEASURED_ROWS] == ["vector"] * 3 + ["matrix"] * 5
    assert [products.choose("qkv", rows) for rows in (3, 5, 9, 1000)] == ["vector", "matrix", "matrix", "matrix"]
    assert products.summary() == {"qkv": "vector up to 4 rows, matrix beyond"}
    assert products.use_matrix_unit


def test_nothing_is_timed_where_there_is_no_choice():
    run, tried = machine({})
    assert measure(["qkv"], "auto", False, run).summary() == {"qkv": "vector always"}
    assert measure(["qkv"], "vector", True, run).summary() == {"qkv": "vector always"}
    assert measure(["qkv"], "matrix", True, run).summary() == {"qkv": "matrix always"}
    assert not measure(["qkv"], "matrix", False, run).use_matrix_unit
    assert tried == []


def test_one_disturbed_time_does_not_decide():
    run, _ = machine(
        {"vector": lambda rows: 1000 if rows == 1 else 100 * rows, "matrix": lambda rows: 4000 if rows == 64 else 600}
    )
    assert measure(["o"], "auto", True, run).summary() == {"o": "vector up to 4 rows, matrix beyond"}
