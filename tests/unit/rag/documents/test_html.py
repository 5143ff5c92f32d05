import pytest

from llama_platform.errors import InputError


def test_html_becomes_headings_tables_and_code_without_what_is_not_shown(read):
    found = read(
        "page.html",
        "<html><head><title>Tea &amp; co</title><meta name=keywords content='a,b'><style>x{}</style></head><body>"
        "<nav>Menu</nav><h1>Tea</h1><p>Green <b>tea</b>.</p><script>alert(1)</script><p hidden>secret</p><!-- note -->"
        "<table><tr><th>a</th></tr><tr><td>1</td></tr></table><pre>helm  install</pre></body></html>",
    )
    assert (found.facts.title, found.facts.tags) == ("Tea & co", ("a", "b"))
    assert [(block.kind, block.heading) for block in found.blocks] == [
        ("heading", "Tea"), ("text", ""), ("table", ""), ("code", ""),
    ]  # fmt: skip
    assert "helm  install" in found.text
    assert "| 1 |" in found.text
    for hidden in ("Menu", "alert", "secret", "note", "x{}"):
        assert hidden not in found.text


def test_html_keeps_backticks_nested_lists_and_loose_text(read):
    found = read(
        "a.html",
        "Loose <b>bold</b> text<br>second line<ul><li>one<ul><li>inner</li></ul></li><li>two</li></ul>"
        "<pre>a `b` ``c``\n  d</pre><div>in a <span>div</span><p>paragraph</p>tail</div>"
        "<table><tr><th colspan=2>Head</th></tr><tr><td>1<table><tr><td>in</td></tr></table></td><td>a|b</td></tr></table>",
    )
    assert [found.text[b.start : b.end] for b in found.blocks] == [
        "Loose bold text\nsecond line", "- one\n  - inner\n- two", "a `b` ``c``\n  d", "in a div", "paragraph", "tail",
        "| Head |\n| 1 in | a/b |",
    ]  # fmt: skip


def test_deep_html_is_refused_not_crashed_on(read):
    with pytest.raises(InputError, match=r"nested too deeply|no text"):
        read("deep.html", "<div>" * 20_000 + "x")
