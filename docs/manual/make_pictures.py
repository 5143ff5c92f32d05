"""Makes the README's pictures: what `make demo` prints, as SVG, and the console on the application that it serves.

    python docs/manual/make_pictures.py        # needs Chromium; takes as long as the demo

The picture of the demo is what a terminal of 100 columns showed at its end.
"""

import io
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs/pictures"
COLUMNS = 100
READY_S = 600
SHOWN_ROOT = "/srv/llama"
"""Stands for the checkout's folder, which says nothing to a reader."""
_FONTS = re.compile(r"@font-face \{.*?\}\s*|<!--.*?-->", re.DOTALL)
"""Fonts from another host, which a picture should not ask for: the reader's own are good enough."""
_CURSOR = re.compile(r"\x1b\[[0-9;]*[A-HJKf]|\x1b\[\?[0-9]+[hl]|\r(?!\n)")


def main() -> None:
    """Run the demo, wait until it serves, take both pictures, and end it."""
    PICTURES.mkdir(exist_ok=True)
    controller, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "60", "TERM": "xterm-256color"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "jobs.demo", "--keep-serving"],
        cwd=ROOT,
        env=environment,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    printed: list[bytes] = []
    threading.Thread(target=_collect, args=(controller, printed), daemon=True).start()
    try:
        url = _served(demo, printed)
        _picture_of_the_console(url)
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait(60)
    _picture_of_the_demo(b"".join(printed).decode("utf-8", "replace"))


def _collect(controller: int, printed: list[bytes]) -> None:
    while True:
        try:
            printed.append(os.read(controller, 65536))
        except OSError:  # the other end is closed
            return


def _served(demo: "subprocess.Popen[bytes]", printed: list[bytes]) -> str:
    """Return the application's URL once the demo says that it serves."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and demo.poll() is None:
        text = b"".join(printed).decode("utf-8", "replace")
        if (found := re.search(r"http://127\.0\.0\.1:\d+", text)) and "Ctrl-C" in text:
            return found[0]
        time.sleep(0.5)
    raise SystemExit(f"the demo does not serve:\n{b''.join(printed).decode('utf-8', 'replace')[-2000:]}")


def _picture_of_the_console(url: str) -> None:
    from playwright.sync_api import sync_playwright

    key, chromium = (ROOT / ".demo/key").read_text().strip(), shutil.which("chromium") or shutil.which("google-chrome")
    httpx.get(f"{url}/health/ready", timeout=30).raise_for_status()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 640})
        page.add_init_script(f"sessionStorage.setItem('llama-platform-key', '{key}')")
        page.goto(f"{url}/console/#/documents")
        page.get_by_label("Your question").fill("How do I roll back an adapter?")
        page.get_by_role("button", name="Ask", exact=True).click()
        page.get_by_text("stands in the sources").wait_for()
        page.screenshot(path=PICTURES / "console.png")
        browser.close()


def _picture_of_the_demo(printed: str) -> None:
    lines = [line for line in _CURSOR.sub("", printed).replace(str(ROOT), SHOWN_ROOT).replace("\r\n", "\n").split("\n")]
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi("\n".join(lines).strip("\n")))
    picture = _FONTS.sub("", console.export_svg(title="make demo"))
    (PICTURES / "demo.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
