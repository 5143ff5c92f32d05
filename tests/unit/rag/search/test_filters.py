import pytest
from pydantic import ValidationError

from rag.search.filters import Filters


@pytest.fixture
def chunks(snapshot_of, make_chunk):
    return snapshot_of([
        make_chunk("one", "guides/a.md", tags=("x", "y"), date="2026-01-10"),
        make_chunk("two", "guides/deep/b.md", tags=("y",)),
        make_chunk("three", "guides.md", date="2026-03-01"),
        make_chunk("four", "faq.jsonl#1", tags=("z",), date="2025-12-31"),
    ]).chunks  # fmt: skip


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        ({"source": "guides/"}, [0, 1]),
        ({"source": "guides.md"}, [2]),
        ({"source": ["guides/deep/", "faq.jsonl#1"]}, [1, 3]),
        ({"source": "faq.jsonl#"}, [3]),
        ({"tag": "y"}, [0, 1]),
        ({"tag": ["x", "z"]}, [0, 3]),
        ({"date": {"from": "2026-01-01"}}, [0, 2]),
        ({"date": {"to": "2026-01-10"}}, [0, 3]),
        ({"date": {"from": "2026-01-01", "to": "2026-01-31"}, "tag": "x"}, [0]),
        ({"tag": "none"}, []),
    ],
)
def test_filters_allow_what_they_say(chunks, filters, rows):
    allowed = Filters.model_validate(filters).allowed(chunks)
    assert [row for row in range(4) if allowed[row]] == rows


def test_no_filter_allows_all(chunks):
    assert Filters().allowed(chunks) is None


@pytest.mark.parametrize(
    "filters",
    [{"colour": "red"}, {"tag": []}, {"date": {"from": "soon"}}, {"date": {"from": "2026-02-01", "to": "2026-01-01"}}],
)
def test_what_is_no_filter_is_refused(filters):
    with pytest.raises(ValidationError):
        Filters.model_validate(filters)
