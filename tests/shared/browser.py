"""A headless Chromium for tests of pages, and axe-core, which finds what keeps readers with disabilities out."""

import base64
import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the path: apt install chromium")
_AXE = find_spec("axe_core_python")
needs_axe = pytest.mark.skipif(_AXE is None, reason="axe-core-python is of the extra `test`: make install")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")


class Browser:
    """One tab of a headless Chromium, driven by the DevTools protocol through a pair of pipes (no port, no driver)."""

    def __init__(self, profile):
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        # The browser reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{read} 4>&{write}'
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe",
                   f"--user-data-dir={profile}"]  # fmt: skip
        self._process = subprocess.Popen(["bash", "-c", shell, CHROMIUM, *options], pass_fds=(read, write),
                                         stderr=subprocess.DEVNULL)  # fmt: skip
        os.close(read)
        os.close(write)
        self._number, self._rest, self.events, self._session = count(1), b"", [], None
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self(f"{domain}.enable")

    def __call__(self, method, **params):
        """The answer to a command; events on the way are kept."""
        number = next(self._number)
        message = {"id": number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _message(self):
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 16)
            assert part, "the browser ended"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def open(self, address, *, scripts=True, width=1280):
        self("Emulation.setScriptExecutionDisabled", value=not scripts)
        self("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        for url in ("about:blank", address):  # a new fragment alone would load nothing
            self.events.clear()
            self("Page.navigate", url=url)
            while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
                self.events.append(self._message())

    def js(self, expression):
        """The value of an expression in the page."""
        answer = self("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def click(self, selector):
        box = self.js(f"""(() => {{ const e = document.querySelector({json.dumps(selector)});
            e.scrollIntoView({{block: "center", behavior: "instant"}}); const r = e.getBoundingClientRect();
            return [r.x + Math.min(r.width / 2, 40), r.y + r.height / 2]; }})()""")
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def key(self, name, code):
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def type(self, selector, text):
        self.js(f"document.querySelector({json.dumps(selector)}).value = ''")
        self.click(selector)
        self("Input.insertText", text=text)

    def prefer(self, scheme):
        """As a reader's system that is light or dark."""
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def violations(self):
        """What axe-core finds wrong with the page: the rule and the element."""
        self.js((Path(_AXE.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8"))
        options = json.dumps({"runOnly": list(RULES), "resultTypes": ["violations"]})
        found = f"""axe.run(document, {options}).then(({{violations}}) => violations.flatMap(
            (one) => one.nodes.map((node) => `${{one.id}}: ${{node.target}} ${{node.failureSummary}}`)))"""
        answer = self("Runtime.evaluate", expression=found, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"]["value"]

    def screenshot(self):
        return base64.b64decode(self("Page.captureScreenshot")["data"])

    def complaints(self):
        """Errors of scripts, and everything that was fetched beside the page itself."""
        wrong = [e for e in self.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
        asked = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return wrong, [url[:80] for url in asked if not url.startswith(("data:", "file:", "about:"))]

    def close(self):
        self._session = None
        self("Browser.close")
        self._process.wait(20)
