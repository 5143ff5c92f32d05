"""Each page of the console in a real browser, on the application around fakes; its words are looked for as a reader would."""

import asyncio
import json
import os
import re
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from artifact_folders import import_versions
from llama_platform.access.keys import SCOPES
from llama_platform.access.registry import KeyRegistry
from llama_platform.artifacts.aliases import Aliases
from llama_platform.inference.protocol import TokenEvent
from route_requests import answer_with
from served_api import served

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here: apt-get install chromium")
PICTURES = os.environ.get("CONSOLE_PICTURES")
"""Folder that pictures of the pages are written to; none without it."""
EVIL = "<img src=x onerror=window.hurt=1><script>window.hurt=1</script> [x](javascript:window.hurt=1) ![y](http://127.0.0.1:9/z)"
STEPS = [
    {
        "step": n,
        "steps": 40,
        "loss": 3 / n,
        "eval_loss": 3.2 / n if n % 10 == 0 else None,
        "learning_rate": 1e-3 / n,
        "tokens_per_s": 400.0 + n,
        "eta_s": 40.0 - n,
    }
    for n in range(1, 41)
]


@pytest.fixture
def visit():
    """Open the console of an application, with a key or without; what breaks in it or leaves it is remembered.

    The browser is started when the application is made: Playwright runs a loop, within which no other can be run.
    """
    from playwright.sync_api import sync_playwright

    with ExitStack() as stack:

        def visit(http, key=None, path="", scheme="light", width=1200):
            chromium = stack.enter_context(sync_playwright()).chromium
            browser = chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            stack.callback(browser.close)
            url = stack.enter_context(served(http.api))
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
            page = context.new_page()
            page.set_default_timeout(10_000)
            page.foreign, page.broken = [], []
            page.on(
                "request",
                lambda request: (
                    page.foreign.append(request.url) if not request.url.startswith((url, "data:")) else None
                ),
            )
            page.on("pageerror", lambda error: page.broken.append(str(error)))
            page.on(
                "console",
                lambda said: page.broken.append(said.text) if "Content Security Policy" in said.text else None,
            )
            if key is not None:
                page.add_init_script(f"sessionStorage.setItem('llama-platform-key', {json.dumps(key)})")
            page.goto(f"{url}/console/{path}")
            return page

        yield visit


@pytest.fixture
def whole(make_rag, repository, adapter_folder, tmp_path):
    """An application with everything the console shows, and the key of somebody who may do all of it."""
    import_versions(repository, adapter_folder, tmp_path, 3)
    Aliases(repository, "adapter", "support").promote("production", 1)
    for run in ("20260101-first", "20260102-second"):
        status = {"status": "finished", "step": 40, "seconds": 40, "updated": "2026-01-02T10:00:00+00:00"}
        repository.store.write(f"runs/{run}/status.json", json.dumps(status).encode())
        repository.store.write(f"runs/{run}/metrics.jsonl", "".join(json.dumps(step) + "\n" for step in STEPS).encode())
        repository.store.write(f"runs/{run}/config.yaml", b"adapter: {name: support}\n")
    _, text = KeyRegistry(repository.store).create("ada", "acme", SCOPES, ("*",), ("*",))
    http = make_rag(auth={"mode": "keys"}, feedback={"enabled": True})
    http.key = text
    return http


def picture(page, name):
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def nothing_left_and_nothing_broke(page):
    assert page.foreign == []
    assert page.broken == []
    assert page.evaluate("window.hurt") is None


def answered(page, count=1):
    """Wait until so many answers have ended."""
    page.get_by_text(re.compile(r"first token \d")).nth(count - 1).wait_for()


def send(page, text):
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send").click()


def test_a_key_is_asked_for_and_what_it_may_not_is_not_shown(make_http, repository, visit):
    _, text = KeyRegistry(repository.store).create("k", "acme", ("generate",), (), ())
    http = make_http(auth={"mode": "keys"})
    page = visit(http)
    page.get_by_label("Key", exact=True).fill("lp_wrong")
    page.get_by_role("button", name="Use it").click()
    page.get_by_role("alert").filter(has_text=re.compile(".")).first.wait_for()
    page.get_by_label("Key", exact=True).fill(text)
    page.get_by_role("button", name="Use it").click()
    page.get_by_role("heading", name="Chat").wait_for()
    assert page.get_by_role("navigation").get_by_role("link").all_inner_texts() == ["Chat"]
    assert page.evaluate("localStorage.length") == 0
    nothing_left_and_nothing_broke(page)


def test_a_chat_streams_is_edited_and_rated(whole, visit, monkeypatch):
    answer_with(whole, monkeypatch, ["Green tea: ", "**eighty** degrees.\n\n", "- one\n- two\n"])
    page = visit(whole, whole.key)
    page.get_by_label("Keep this conversation").check()
    send(page, "How hot is tea?")
    answered(page)
    assert page.locator(".turn strong").inner_text() == "eighty"
    assert page.locator(".turn li").all_inner_texts() == ["one", "two"]
    assert "first token" in page.locator(".turn .facts").first.inner_text()
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_text("Thank you.").wait_for()
    page.get_by_role("button", name="Correct it").click()
    page.get_by_label("What the answer should have been").fill("Eighty degrees.")
    page.get_by_role("button", name="Keep the correction").click()
    (entry,) = whole.book.entries()
    page.wait_for_timeout(200)
    (entry,) = whole.book.entries()
    assert [one.rating for one in entry.opinions] == ["down", "down"]
    assert entry.opinions[-1].correction == "Eighty degrees."
    page.get_by_role("button", name="Edit and ask again").click()
    assert page.get_by_label("Your message").input_value() == "How hot is tea?"
    assert page.locator(".turn").count() == 0
    send(page, "How hot?")
    answered(page)
    picture(page, "chat")
    nothing_left_and_nothing_broke(page)


def test_two_models_answer_side_by_side(whole, visit):
    page = visit(whole, whole.key)
    page.get_by_label("Model: a name").fill("base:support")
    page.get_by_label("Beside it").fill("base")
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Tokens at most").fill("20")
    send(page, "Who are you?")
    answered(page, 2)
    assert page.locator(".two .turn > header").all_inner_texts() == ["base:support", "base"]
    assert "base:support" in asked_as_curl(page)
    nothing_left_and_nothing_broke(page)


def asked_as_curl(page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy as curl").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    return page.evaluate("navigator.clipboard.readText()")


def test_stop_ends_an_answer_and_frees_the_engine(make_http, visit, monkeypatch):
    http, left = make_http(), []

    async def generate(requests, adapter):
        try:
            for _ in range(1000):
                yield [(0, TokenEvent("word ", (1,)))]
                await asyncio.sleep(0.02)
        finally:
            left.append(adapter)

    monkeypatch.setattr(http.generator, "generate", generate)
    page = visit(http)
    send(page, "Go on for ever")
    page.get_by_text("word word word").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("stopped").wait_for()
    assert page.get_by_role("button", name="Send").is_enabled()
    for _ in range(50):
        if left:
            break
        page.wait_for_timeout(100)
    assert left == [None]
    nothing_left_and_nothing_broke(page)


def test_a_stream_that_is_cut_says_so_and_keeps_what_came(make_http, visit, monkeypatch):
    http = make_http()
    answer_with(http, monkeypatch, ["The beginning", OSError("the replica is gone")])
    page = visit(http)
    send(page, "Hello")
    problem = page.locator(".turn .problem").filter(has_text=re.compile("."))
    problem.wait_for()
    assert "The beginning" in page.locator(".turn").nth(1).inner_text()
    assert "gone" not in problem.inner_text()  # what broke inside is nobody's business
    nothing_left_and_nothing_broke(page)


def test_a_key_that_is_revoked_meanwhile_is_asked_for_again(whole, visit, repository):
    page = visit(whole, whole.key)
    page.get_by_label("Your message").wait_for()
    registry = KeyRegistry(repository.store)
    (key_id,) = registry.read().keys
    registry.revoke(key_id)
    whole.api.state.state.keys.document = registry.read()
    send(page, "Hello")
    page.get_by_text("The key is not taken any more.").wait_for()
    nothing_left_and_nothing_broke(page)


def test_what_models_and_documents_say_stays_text(whole, visit, monkeypatch):
    answer_with(whole, monkeypatch, [EVIL, f"\n\n```\n{EVIL}\n```\n# {EVIL}\n> {EVIL}\n1. {EVIL}"])
    page = visit(whole, whole.key)
    send(page, EVIL)
    answered(page)
    assert EVIL.split()[0] in page.locator(".turn").nth(1).inner_text()
    assert page.locator(".turn img, .turn a, .turn script").count() == 0
    page.goto(page.url.partition("#")[0] + "#/documents")
    page.get_by_label("Your question").fill(f"{EVIL} How hot is the water for green tea?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_role("heading", name="Sources").wait_for()
    nothing_left_and_nothing_broke(page)


def test_documents_are_asked_with_the_cited_sentence_lit_and_uploaded(whole, visit, monkeypatch, tmp_path):
    answer_with(
        whole,
        monkeypatch,
        ["Green tea is made with water of eighty degrees [1]. ", "It cures every illness of mankind [1]."],
    )
    page = visit(whole, whole.key, "#/documents")
    page.get_by_label("Your question").fill("How hot is the water for green tea?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("stands in the sources").wait_for()
    assert page.locator(".source mark").first.inner_text() == "Green tea is made with water of eighty degrees."
    assert "cures every illness" in page.locator(".unsupported").inner_text()
    (tmp_path / "new.md").write_text("# New\n\nThe gate code is 4711.\n")
    page.get_by_label("Files").set_input_files(str(tmp_path / "new.md"))
    page.get_by_role("button", name="Upload").click()
    page.get_by_text("RUNNING").wait_for()
    assert "read 1 documents" in page.get_by_label("Log of the job").inner_text()
    assert len(whole.jobs.changes) == 1
    picture(page, "documents")
    nothing_left_and_nothing_broke(page)


def test_adapters_are_promoted_split_rolled_back_and_tried_as_canaries(whole, visit, repository):
    page = visit(whole, whole.key, "#/adapters")
    page.get_by_role("link", name="support").click()
    page.get_by_role("heading", name="Change production").wait_for()
    aliases = Aliases(repository, "adapter", "support")

    def targets():
        return {target.version: target.weight for target in aliases.read().aliases["production"]}

    def after(expected):
        for _ in range(50):
            if targets() == expected:
                return
            page.wait_for_timeout(100)
        raise AssertionError(targets())

    page.get_by_role("button", name="Split").click()
    after({1: 90, 3: 10})  # beside the present one, the newest
    page.get_by_label("and", exact=True).select_option("1")
    page.get_by_role("button", name="Split").click()
    page.get_by_text("A split needs two different versions.").wait_for()
    page.get_by_label("Version", exact=True).select_option("2")
    page.wait_for_timeout(3500)  # what is looked at again leaves what was chosen
    page.get_by_role("button", name="Promote").click()
    after({2: 1})
    page.get_by_role("button", name="Roll back").click()
    after({1: 90, 3: 10})
    page.get_by_role("button", name="Roll back").click()
    after({1: 1})
    page.get_by_label("Candidate").select_option("3")
    page.get_by_label("Percent, step by step").fill("10, 50")
    page.get_by_role("button", name="Start a canary").click()
    page.get_by_role("heading", name="Canary: version 3 beside 1").wait_for()
    assert targets() == {1: 90, 3: 10}
    assert "10 % of the traffic" in page.get_by_role("region", name="Canary").inner_text()
    picture(page, "adapters")
    page.get_by_role("button", name="Stop it").click()
    page.get_by_text("stopped by hand").wait_for()
    assert targets() == {1: 1}
    nothing_left_and_nothing_broke(page)


def test_the_administrators_token_is_enough_for_all_but_asking(make_rag, visit, repository, adapter_folder, tmp_path):
    import_versions(repository, adapter_folder, tmp_path, 1)
    Aliases(repository, "adapter", "support").promote("production", 1)
    (tmp_path / "token").write_text("t" * 32)
    page = visit(make_rag(auth={"mode": "keys"}, admin_token_file=str(tmp_path / "token")), "t" * 32)
    page.get_by_role("link", name="Adapters").click()
    page.get_by_role("link", name="support").click()
    page.get_by_role("heading", name="Change production").wait_for()
    page.wait_for_timeout(3500)
    assert not page.get_by_role("dialog").is_visible()
    assert "Chat" not in page.get_by_role("navigation").inner_text()
    nothing_left_and_nothing_broke(page)


def test_runs_are_drawn_and_compared(whole, visit):
    page = visit(whole, whole.key, "#/runs")
    page.get_by_role("link", name="20260102-second").click()
    page.get_by_role("img", name=re.compile("^Loss by step: loss from 3 to 0.075; held-out loss")).wait_for()
    picture(page, "runs")
    page.get_by_role("link", name="All runs").click()
    for run in ("20260101-first", "20260102-second"):
        page.get_by_label(f"Choose {run}").check()
    page.get_by_role("link", name="Compare the chosen").click()
    page.get_by_role(
        "img", name=re.compile("^Loss by step: 20260101-first from 3 to 0.075; 20260102-second")
    ).wait_for()
    nothing_left_and_nothing_broke(page)


def test_traffic_shows_what_was_asked(whole, visit):
    page = visit(whole, whole.key)
    send(page, "Who are you?")
    answered(page)
    page.get_by_role("link", name="Traffic").click()
    page.get_by_text("tokens of answers").wait_for()
    assert page.locator(".tile b").first.inner_text() == "1"
    page.get_by_role("region", name="Use").get_by_text("acme").wait_for()
    picture(page, "traffic")
    nothing_left_and_nothing_broke(page)


def test_keys_are_shown_once_and_revoked(whole, visit, repository):
    page = visit(whole, whole.key, "#/keys")
    page.get_by_text("Create a key").click()
    page.get_by_label("Name", exact=True).fill("grace")
    assert page.get_by_label("Tenant", exact=True).input_value() == "acme"  # a key makes keys of its own tenant
    page.get_by_role("button", name="Create").click()
    page.get_by_text("It is shown this once").wait_for()
    shown = page.locator("pre").inner_text()
    assert re.fullmatch("lp_[0-9a-f]{12}_[0-9a-f]{64}", shown)
    picture(page, "keys")
    page.get_by_role("button", name="I have it").click()
    assert shown not in page.content()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("row", name="grace").get_by_role("button", name="Revoke").click()
    page.get_by_text("revoked").first.wait_for()
    assert KeyRegistry(repository.store).read().keys[shown.split("_")[1]].revoked is not None
    nothing_left_and_nothing_broke(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readers_of_every_kind_find_their_way(whole, visit, scheme, monkeypatch):
    """axe-core finds nothing serious on any page, in either theme, on a telephone."""
    from axe_playwright_python.sync_playwright import Axe

    answer_with(whole, monkeypatch, ["Green tea is made with water of eighty degrees [1]."])
    page = visit(whole, whole.key, scheme=scheme, width=390)
    send(page, "How hot?")
    answered(page)
    serious = {}
    for place in (
        "chat",
        "documents",
        "adapters",
        "adapters/support",
        "runs",
        "runs/20260101-first",
        "traffic",
        "keys",
    ):
        if place != "chat":
            page.goto(page.url.partition("#")[0] + f"#/{place}")
            page.wait_for_load_state("networkidle")
        picture(page, f"{place.replace('/', '-')}-{scheme}-narrow")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), place
        found = Axe().run(page).response["violations"]
        serious |= {
            f"{place}: {one['id']}": [node["html"][:120] for node in one["nodes"][:2]]
            for one in found
            if one["impact"] in ("serious", "critical")
        }
    assert serious == {}
    nothing_left_and_nothing_broke(page)


def test_the_first_paint_is_quick_and_small(whole, visit):
    page = visit(whole, whole.key)
    page.get_by_label("Your message").wait_for()
    paint = page.evaluate(
        "performance.getEntriesByType('paint').find((one) => one.name === 'first-contentful-paint').startTime"
    )
    sizes = page.evaluate("performance.getEntriesByType('resource').map((one) => one.transferSize)")
    print(f"first contentful paint {paint:.0f} ms, {len(sizes)} requests, {sum(sizes) / 1000:.0f} kB")
    assert sum(sizes) < 150_000
