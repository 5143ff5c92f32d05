import re

import pytest

from serve_apps.api.console import console_files


def test_the_root_leads_to_the_console(http):
    answer = http.get("/")
    assert (answer.status_code, answer.headers["location"]) == (307, "console/")
    assert http.get("/console").headers["location"] == "console/"  # of this page, so behind a prefix, too
    assert http._run("HEAD", "/console/").status_code == 200
    page = http.get("/console/")
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self'; frame-ancestors 'none'")


def test_every_file_is_sent_with_its_type_and_not_again_while_it_stays(http):
    assert {name.rpartition(".")[2] for name in console_files()} == {"html", "css", "js", "svg"}
    for name in console_files():
        answer = http.get(f"/console/{name}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        again = http.get(f"/console/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert http.get(f"/console/{name}", headers={"If-None-Match": f"W/{answer.headers['etag']}"}).status_code == 304


@pytest.mark.parametrize(
    "path", ["nothing.js", "../app.py", "..%2fapp.py", "%2e%2e/app.py", "lib", "lib/", "/etc/passwd"]
)
def test_nothing_else_is_sent(http, path):
    assert http.get(f"/console/{path}").status_code == 404


def test_the_page_has_no_script_style_or_address_of_its_own():
    """The Content-Security-Policy would refuse them: inline scripts, handlers and styles, other hosts, evaluated text."""
    for name, file in console_files().items():
        text = file.content.decode()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), (
            name
        )
        if name.endswith(".html"):
            assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=", text), name


def test_the_console_is_small():
    assert sum(len(file.content) for file in console_files().values()) < 150_000
