"""Words without "=" for the commands that take some: ``genkt predict RUN IMAGES...``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

_SETTING = re.compile(r"^[A-Za-z_][\w.]*=")


def with_positionals(words: Sequence[str], first: str, others: str | None = None) -> list[str]:
    """Turn bare words into ``first=WORD`` and ``others=[WORD,...]``; settings stay as they are."""
    bare = [word for word in words if not _SETTING.match(word) and not word.startswith("-")]
    rest = [word for word in words if _SETTING.match(word) or word.startswith("-")]
    result = list(rest)
    if bare:
        result.append(f"{first}={json.dumps(bare[0], ensure_ascii=False)}")
    if len(bare) > 1:
        if others is None:
            result += bare[1:]  # reported as words that mean nothing
        else:
            quoted = ",".join(json.dumps(word, ensure_ascii=False) for word in bare[1:])
            result.append(f"{others}=[{quoted}]")
    return result
