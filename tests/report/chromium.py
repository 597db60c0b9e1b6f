"""Headless Chromium, driven over a pipe by the DevTools protocol: no server, no driver and no package is needed."""

import base64
import fcntl
import json
import os
import shutil
import signal
from contextlib import contextmanager

PATH = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars"),
    "--remote-debugging-pipe",
)


class Page:
    """One page; ``errors`` are its exceptions, its console's errors, and what it failed to load."""

    def __init__(self, send, receive):
        self._send, self._receive = send, receive
        self._last, self._events, self.errors, self.requested = 0, [], [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    _session = None

    def call(self, method, **params):
        """The result of a command; events that arrive before it are kept."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        self._send(message | ({"sessionId": self._session} if self._session else {}))
        while True:
            answer = self._receive()
            if answer.get("id") == self._last:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self._take(answer)

    def _take(self, event):
        self._events.append(event.get("method"))
        params = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"].get("exception", params["exceptionDetails"]))
        if event.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.errors.append(params["args"])
        if event.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(params["entry"])
        if event.get("method") == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])

    def open(self, path, width=1366, height=768, scheme="light"):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        while "Page.loadEventFired" not in self._events:
            self._take(self._receive())

    def run(self, script):
        """The value of an expression, which may be a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key, code=0):
        """Presses a key, such as ``Tab`` or ``ArrowRight``; ``code`` is its virtual key code."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def picture(self, path, selector="body"):
        """A PNG of an element, as large as it is."""
        box = self.run(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            "return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height}; })()"
        )
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip={**box, "scale": 1})
        path.write_bytes(base64.b64decode(shot["data"]))


@contextmanager
def chromium(profile):
    """A page of a new browser, whose profile is in the given folder."""
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    # The browser reads from file 3 and writes to file 4; the ends of the pipes are moved out of the way before.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (to_read, from_write)]
    os.close(to_read)
    os.close(from_write)
    process = os.posix_spawn(
        PATH,
        [PATH, *FLAGS, f"--user-data-dir={profile}"],
        os.environ,
        file_actions=[
            *[(os.POSIX_SPAWN_OPEN, output, os.devnull, os.O_WRONLY, 0) for output in (1, 2)],
            *[(os.POSIX_SPAWN_DUP2, end, file) for end, file in zip(ends, (3, 4), strict=True)],
        ],
    )
    for end in ends:
        os.close(end)
    buffer = bytearray()

    def send(message):
        os.write(to_write, json.dumps(message).encode() + b"\0")

    def receive():
        while b"\0" not in buffer:
            read = os.read(from_read, 1 << 16)
            assert read, "the browser has ended"
            buffer.extend(read)
        text, _, rest = bytes(buffer).partition(b"\0")
        buffer[:] = rest
        return json.loads(text)

    try:
        yield Page(send, receive)
    finally:
        os.close(to_write)
        os.close(from_read)
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)
