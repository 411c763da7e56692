"""A real browser without a window, for pages in files; it is told to reach nothing but them."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MISSING = next((f"{name} is not installed" for name in ("chromium", "chromedriver") if not shutil.which(name)), "")
"""why there is no browser; empty where there is one"""

_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
    *("--host-resolver-rules=MAP * ~NOTFOUND", "--force-device-scale-factor=1"),
)


class Browser:
    """One window.

    Args:
        driver: of Selenium.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, file: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Show a page at a size, in a light or a dark system."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._command("Emulation.setDeviceMetricsOverride", size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get(file.absolute().as_uri())

    def forget(self) -> None:
        """Leave the page; what was asked for and said so far is of no interest."""
        self.driver.get("about:blank")
        self.requested()
        self.complaints()

    def requested(self) -> list[str]:
        """The addresses that were asked for since the last call; pictures inside the page are none."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = (event["params"] for event in events if event["method"] == "Network.requestWillBeSent")
        return [each["request"]["url"] for each in sent if not each["request"]["url"].startswith("data:")]

    def complaints(self) -> list[str]:
        """What the console says since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def run(self, script: str, *arguments: Any) -> Any:
        """The value of a script's `return`."""
        return self.driver.execute_script(script, *arguments)

    def hover(self, selector: str, place: int = 0) -> str:
        """Move the pointer onto an element, and what the page then says beside it."""
        script = (
            "const e = document.querySelectorAll(arguments[0])[arguments[1]]; e.scrollIntoView({block: 'center'});"
            "const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2];"
        )
        x, y = self.run(script, selector, place)
        time.sleep(0.1)  # the scrolling that this began hides what was shown
        self._command("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
        return str(self.run("const t = document.querySelector('.tip'); return t && !t.hidden ? t.textContent : '';"))

    def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of the window, or of the whole page."""
        taken = self._command("Page.captureScreenshot", {"format": "png", "captureBeyondViewport": whole})
        return base64.b64decode(taken["data"])

    def _command(self, name: str, given: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(name, given)


@contextmanager
def started() -> Iterator[Browser]:
    """A browser with nothing from before, for as long as it is needed."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = str(shutil.which("chromium"))
        for flag in (*_FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options, Service(shutil.which("chromedriver")))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
