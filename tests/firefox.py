"""A headless Firefox for tests, driven over WebDriver BiDi (https://w3c.github.io/webdriver-bidi), which needs no driver."""

import base64
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager

import pytest
from websockets.sync.client import connect

NAMES = ("firefox-esr", "firefox")
SECONDS = 60  # generous, because the machine may be busy


class Firefox:
    """A tab. `faults` collects what the page logs as errors or warnings."""

    def __init__(self, socket):
        self.socket = socket
        self.number, self.faults = 0, []
        self.call("session.new", capabilities={})
        self.call("session.subscribe", events=["log.entryAdded"])
        self.context = self.call("browsingContext.create", type="tab")["context"]

    def call(self, method, **params):
        """Send a command, and return its result."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=SECONDS))
            if answer.get("id") == self.number:
                assert answer["type"] == "success", answer
                return answer["result"]
            if answer.get("method") == "log.entryAdded" and answer["params"]["level"] in ("error", "warn"):
                self.faults.append(answer["params"]["text"])

    def open(self, url, width=1280, height=800):
        self.call("browsingContext.setViewport", context=self.context, viewport={"width": width, "height": height})
        self.call("browsingContext.navigate", context=self.context, url=url, wait="complete")

    def evaluate(self, script):
        """Return the value of a JavaScript expression, or of its promise: a number, a text, or true or false."""
        expression = f"Promise.resolve({script}).then(JSON.stringify)"
        target = {"context": self.context}
        result = self.call("script.evaluate", expression=expression, target=target, awaitPromise=True)
        assert result["type"] == "success", result
        return json.loads(result["result"].get("value", "null"))

    def until(self, script):
        """Wait until an expression gives something true, and return it."""
        began = time.monotonic()
        while not (value := self.evaluate(script)):
            assert time.monotonic() - began < SECONDS, f"never true: {script}"
            time.sleep(0.05)
        return value

    def press(self, *keys):
        """Press and release keys, one after the other. Special keys have the code points of WebDriver."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        self.call("input.performActions", context=self.context, actions=[source])

    def click(self, selector):
        """Click the middle of the first element that a selector finds."""
        self.until(f"!!document.querySelector({json.dumps(selector)})")
        place = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{place}.scrollIntoView({{block: 'center'}}) ?? null")
        x, y = self.evaluate(f"(r => [r.x + r.width / 2, r.y + r.height / 2])({place}.getBoundingClientRect())")
        move = {"type": "pointerMove", "x": round(x), "y": round(y)}
        actions = [move, {"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        source = {"type": "pointer", "id": "mouse", "actions": actions}
        self.call("input.performActions", context=self.context, actions=[source])

    def screenshot(self):
        """Return a picture of the window, PNG."""
        return base64.b64decode(self.call("browsingContext.captureScreenshot", context=self.context)["data"])


@contextmanager
def firefox():
    """Yield a running Firefox. Without one, the test is skipped."""
    path = os.environ.get("FIREFOX") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed; install one, or set FIREFOX to its path")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [path, "--headless", "--remote-debugging-port", "0", "--profile", profile, "--no-remote"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            for line in process.stderr:
                if found := re.search(r"BiDi listening on (ws://\S+)", line):
                    break
            else:
                pytest.fail("Firefox ended before it listened")
            threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would hold it up
            with connect(f"{found[1]}/session", max_size=None) as socket:
                yield Firefox(socket)
        finally:
            process.kill()
            process.wait()
