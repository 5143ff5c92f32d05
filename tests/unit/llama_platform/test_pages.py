import jinja2
import pytest

from llama_platform.pages import render_page


def test_what_is_put_into_a_page_is_escaped(tmp_path, monkeypatch):
    (tmp_path / "demo_pages").mkdir()
    (tmp_path / "demo_pages/__init__.py").touch()
    (tmp_path / "demo_pages/page.html.j2").write_text("<p>{{ text }}</p>")
    monkeypatch.syspath_prepend(tmp_path)
    assert render_page("demo_pages", "page.html.j2", text="<b>") == "<p>&lt;b&gt;</p>"
    with pytest.raises(jinja2.UndefinedError, match="text"):
        render_page("demo_pages", "page.html.j2")
