"""Words without "=" for the commands that take some: ``genkt predict RUN IMAGES...``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from genkt.settings.values import quote
from genkt.settings.words import FLAGS

_SETTING = re.compile(r"^[~+]{0,2}[A-Za-z_][\w.]*=", re.ASCII)


def with_positionals(words: Sequence[str], first: str, others: str | None = None) -> list[str]:
    """Turn bare words into ``first=WORD`` and ``others=[WORD,...]``; settings stay as they are.

    A word that names an existing file is bare, even where it looks like a setting ("a=b.png").
    """
    bare: list[str] = []
    rest: list[str] = []
    before = ""
    for word in words:
        is_setting = _SETTING.match(word) and not os.path.exists(word)
        is_flags = before in FLAGS  # --config-dir DIR
        (rest if is_setting or is_flags or word.startswith("-") else bare).append(word)
        before = word
    result = list(rest)
    if bare and not any(word.startswith(f"{first}=") for word in rest):
        result.append(f"{first}={quote(bare.pop(0))}")
    if others is None:
        result += bare  # reported as words that mean nothing
    elif bare:
        result.append(f"{others}=[{','.join(map(quote, bare))}]")
    return result
