"""Pages in a real browser, and what they say and ask for."""

from __future__ import annotations

import shutil
import time
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


class Visit:
    """An open page with all that it said, asked for, and put in front of the reader."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.said: list[str] = []
        self.asked: list[str] = []
        self.dialogs: list[str] = []
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))
        page.goto(address)

    def wait(self, expression: str, seconds: float = 30) -> None:
        """Until an expression is true. Playwright's own wait evaluates inside the page, which its policy may forbid."""
        deadline = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < deadline, f"not true after {seconds:g} s: {expression}"
            time.sleep(0.02)

    def quiet(self) -> bool:
        return not self.said and not self.dialogs and self.asked == [self.address]
