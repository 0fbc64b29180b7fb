"""What mkdocs adds to ``docs/``: the front page, the configuration reference, the models' cards.

``mkdocs.yml`` names this file under ``hooks``. The front page is README.md with its links turned;
marks of snippets (see ``snippets.py``) are taken off before a page is rendered.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import settings_pages  # noqa: E402

ROOT = settings_pages.ROOT
FRONT = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}
"""Pages that are files of the repository's root."""
CARDS = ("README.md", "reconstructions.png", "completions.png")
"""Files of a folder below ``checkpoints/`` that pages show or link."""

_FENCE = re.compile(r"^(```\w+)((?: [\w-]+(?:=\S+)?)+)$", re.MULTILINE)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made elsewhere."""
    made = {f"configuration/{name}": text for name, text in settings_pages.pages().items()}
    for name, file in FRONT.items():
        made[name] = (ROOT / file).read_text(encoding="utf-8").replace("](docs/", "](")
    made["index.md"] = made["index.md"].replace("](CHANGELOG.md)", "](changelog.md)")
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    for path in sorted((ROOT / "checkpoints").glob("*/*")):
        if path.name in CARDS:
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Marks of snippets off; links to ``checkpoints/``, which lies beside ``docs/``, turned."""
    depth = page.file.src_uri.count("/")
    outside, inside = "../" * (depth + 1) + "checkpoints/", "../" * depth + "checkpoints/"
    return _FENCE.sub(_plain_fence, markdown).replace(f"]({outside}", f"]({inside}")


def _plain_fence(match: re.Match[str]) -> str:
    """A fence without marks; the file that a block is to be becomes its title."""
    file = re.search(r"file=(\S+)", match[2])
    return f'{match[1]} title="{file[1]}"' if file else match[1]
