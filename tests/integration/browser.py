"""A real headless browser for tests of pages, spoken to through its own pipe: no driver needed.

Chromium's DevTools protocol: JSON messages that end with a NUL byte, on descriptors 3 and 4.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_SHELL = 'exec "$@" 3<&{} 4>&{}'
_OVERFLOWING = """
(() => {
  const width = document.documentElement.clientWidth, found = [];
  for (const element of document.body.querySelectorAll('*')) {
    if (element.closest('svg') && element.tagName !== 'svg') continue;
    const box = element.getBoundingClientRect();
    if (box.width && (box.left < -0.5 || box.right > width + 0.5))
      found.push(`${element.tagName}.${element.className.baseVal ?? element.className} ` +
        `${box.left.toFixed(1)}..${box.right.toFixed(1)}`);
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth &&
        getComputedStyle(element).display !== 'inline')
      found.push(`${element.tagName} holds ${element.scrollWidth} of ${element.clientWidth}`);
  }
  if (document.documentElement.scrollWidth > width) found.push('the page scrolls sideways');
  return found;
})()
"""
_CONTRASTS = """
(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    if (!text || !element.getClientRects().length) continue;
    const [a, b] = [parse(getComputedStyle(element).color), behind(element)].map(light);
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 40)]);
  }
  return found;
})()
"""


def find_browser() -> str | None:
    """Return a Chromium or Chrome on this machine; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page in a running browser."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        """What the browser reported by itself."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    _session: str | None = None

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._from, 1 << 20)
            assert data, "the browser has gone"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        value: dict[str, Any] = json.loads(message)
        return value

    def open(self, page: Path, *, width: int, dark: bool = False) -> None:
        """Show the file `page` in a window of `width` pixels, and wait until it is loaded."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.ask("Page.navigate", url=page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def value(self, script: str) -> Any:
        """Return what a JavaScript expression gives."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def overflowing(self) -> list[str]:
        """Return elements that stick out of the window, or of the box they are in."""
        found: list[str] = self.value(_OVERFLOWING)
        return found

    def contrasts(self) -> list[tuple[float, str]]:
        """Return each visible text with its contrast to what is behind it, as WCAG 2 has it."""
        found = [(float(ratio), str(text)) for ratio, text in self.value(_CONTRASTS)]
        assert found
        return found

    def complaints(self) -> list[str]:
        """Return what the console and the log said since the page was opened."""
        methods = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event["params"]) for event in self.events if event["method"] in methods]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for since the page was opened, `data:` left out."""
        urls = [
            event["params"]["request"]["url"]
            for event in self.events
            if event.get("method") == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]

    def screenshot(self, path: Path) -> None:
        """Write the whole page as PNG."""
        height = self.value("document.documentElement.scrollHeight")
        width = self.value("document.documentElement.clientWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 12_000), "scale": 1}
        answer = self.ask(
            "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip
        )
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def running_browser(program: str) -> Iterator[Browser]:
    """Start a browser without a window and with nothing kept; end it and its children after."""
    read_by_it, to_browser = os.pipe()
    from_browser, written_by_it = os.pipe()
    with TemporaryDirectory(prefix="playmill-browser-") as profile:
        shell = _SHELL.format(read_by_it, written_by_it)
        options = (
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
        )
        process = subprocess.Popen(
            ["/bin/bash", "-c", shell, "browser", program, *options],
            pass_fds=(read_by_it, written_by_it),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_by_it)
        os.close(written_by_it)
        try:
            yield Browser(to_browser, from_browser)
        finally:
            os.close(to_browser)
            os.close(from_browser)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
