import pytest

from llama_platform.preflight.findings import Finding, worst


@pytest.mark.parametrize(
    ("levels", "expected"),
    [([], "ok"), (["ok"], "ok"), (["ok", "warning"], "warning"), (["warning", "error", "ok"], "error")],
)
def test_the_worst_counts(levels, expected):
    assert worst(Finding(level, "x", "y") for level in levels) == expected
