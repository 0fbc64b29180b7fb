"""A headless Chromium driven through its DevTools pipe: no other package is needed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
_PATIENCE = 60.0


class Page:
    """One open page.

    Args:
        path: the file it shows.  downloads: where files go that the page saves.
    """

    def __init__(self, path: Path, downloads: Path) -> None:
        assert PROGRAM is not None
        self.downloads, self._number, self._events = downloads, 0, list[str]()
        to_it, self._to = os.pipe()
        self._of, of_it = os.pipe()

        def fit_pipes() -> None:  # DevTools reads descriptor 3 and writes 4
            copies = os.dup(to_it), os.dup(of_it)
            os.dup2(copies[0], 3)
            os.dup2(copies[1], 4)

        command = [
            PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
            f"--user-data-dir={downloads / 'profile'}", "--disable-dev-shm-usage", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            command, preexec_fn=fit_pipes, close_fds=False, stderr=subprocess.DEVNULL
        )
        os.close(to_it)
        os.close(of_it)
        self._rest = b""
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        self.call("Page.enable")
        self.call("Log.enable")
        self.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads.resolve())
        )
        self.call("Page.navigate", url=path.resolve().as_uri())
        self._wait(lambda: self.value("document.readyState") == "complete")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._of)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None and not method.startswith("Browser."):
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("method") == "Log.entryAdded":
                self._events.append(answer["params"]["entry"]["text"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            data = os.read(self._of, 1 << 16)
            assert data, "Chromium has gone"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\0")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def value(self, expression: str) -> Any:
        """What a script of ours finds in the page."""
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key)

    def messages(self) -> list[str]:
        """What the browser complained of so far."""
        self.value("1")
        return self._events

    def saved(self, name: str) -> str:
        """A file that the page saved, once it is there."""
        path = self.downloads / name
        self._wait(path.is_file)
        return path.read_text(encoding="utf-8")

    def _wait(self, condition: Any) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)
