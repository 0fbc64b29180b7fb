"""One finished run, shared by the tests that only read it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: tiny tensors gain nothing
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime, wherever a test imports it
os.environ.setdefault("OMP_NUM_THREADS", "1")  # from threads, and spinning ones starve the others

if (  # a shell's background: the processes that tests start would not hear Ctrl-C either
    signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    and threading.current_thread() is threading.main_thread()
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from tiny import run, transfer_words, write_images

# a folder of tests for each folder of the package; what one test file offers, others import by name
sys.path[:0] = sorted({str(path.parent) for path in Path(__file__).parent.glob("*/test_*.py")})

HOSTILE = ("a, b", 'it\'s <b>"x"<b>', "naïve 日本")
"""Class names that want to break CSV, HTML, JSON, YAML or a shell."""


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test leaves anything in the user's cache, or finds something there."""
    os.environ["GENKT_CACHE"] = str(tmp_path_factory.mktemp("cache home"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder with ``images`` (one file of them corrupt) and the finished run ``run``."""
    home = tmp_path_factory.mktemp("shared home")
    write_images(home / "images", HOSTILE)
    (home / "images" / HOSTILE[0] / "broken.png").write_bytes(b"no picture")
    ran = run(*transfer_words(home, "draws=2", "train.steps=12"))
    assert ran.code == 0, ran.err
    return home
