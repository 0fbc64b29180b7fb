"""What a command has left in its folder, without what tells the time; what differs from before."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

OF_TIME = re.compile(
    r"seconds|^peak_memory_bytes$|^waited$|^date$|^digest$|(report|result)\.(json|html)$"
)
"""Keys of JSON files whose values differ from run to run: times, digests of files with times."""
_DISTANCES = ("fd", "fd_floor")
"""Sums over float64 matrices, whose last bit depends on where these lie in memory."""
_UNTOLD = re.compile(
    r"^(\.cache|tmp)(/|$)|(^|/)(tensorboard|\.locks)(/|$)|\.log$|\.lock$|/nothing$"
)
"""Files that tell the time in their name or in every line, locks, what libraries
keep, and what is written through a link that leads to nothing."""
_SHOWN = re.compile(
    r"(report|contact_sheet|compare|analyze)\.html$|(compare|README)\.md$|/state\.pt$"
)
"""What holds times among other things: only that it is there, and not empty, is compared."""

Snapshot = dict[str, Any]
"""Path in the folder -> content without times; "link" and "folder" for what is no file."""


def snapshot(home: Path) -> Snapshot:
    """All that lies in a folder."""
    found: Snapshot = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if _UNTOLD.search(name):
            continue
        if path.is_symlink():
            found[name] = "link"
        elif path.is_file():
            found[name] = content(path)
    return found


def content(path: Path) -> Any:
    """A file's bytes; JSON without what tells the time."""
    data = path.read_bytes()
    if _SHOWN.search(path.as_posix()):
        return bool(data)
    try:
        if path.suffix == ".json":
            return _timeless(json.loads(data))
        if path.suffix == ".jsonl":
            lines = [_timeless(json.loads(line)) for line in data.splitlines()]
            return sorted(lines, key=json.dumps)  # several processes write in any order
    except ValueError:
        pass  # damaged: its bytes
    return data


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        told = {key: each for key, each in value.items() if not OF_TIME.search(key)}
        return {
            key: float(f"{each:.12g}") if key in _DISTANCES else _timeless(each)
            for key, each in told.items()
        }
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def differences(expected: Snapshot, found: Snapshot) -> list[str]:
    """One short line per file that differs, is missing, or is too many."""
    lines = []
    for name in sorted({*expected, *found}):
        if name not in found:
            lines.append(f"{name}: missing")
        elif name not in expected:
            lines.append(f"{name}: left over")
        elif expected[name] != found[name]:
            lines.append(f"{name}: differs{_where(expected[name], found[name])}")
    return lines


def _where(a: Any, b: Any) -> str:
    """The first key at which two JSON files differ."""
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        a, b = dict(enumerate(a)), dict(enumerate(b))
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            if a.get(key) != b.get(key):
                return f" at {key}{_where(a.get(key), b.get(key)).removeprefix(' at')}"
    return ""


def general(line: str) -> str:
    """A fault without numbers and digests, so that faults of one kind are counted together."""
    line = re.sub(r"(?<=[./])[a-z0-9_]{8}(?=\.\w+: left over)", "*", line)
    line = re.sub(r"\b[0-9a-f]{16,}\b", "*", line)
    return re.sub(r"\d+(\.\d+)?", "N", line)
