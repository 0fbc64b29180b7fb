"""Pictures and list files for the tests of split lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny import picture

from genkt.readers.split_list import read_split_list


def save(root: Path, *names: str) -> None:
    """Pictures at these names, every one another."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        number = 1 + sum(1 for _ in root.rglob("*.png"))
        picture(len(root.name), number).save(path)


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def read(root: Path, train: Path, **more: Any) -> Any:
    settings = {"test_fraction": 0.0, "progress": False} | more
    return read_split_list(root, train, **settings)
