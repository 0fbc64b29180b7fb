"""``plan.yaml`` in a run folder: the settings that were derived for a run, and why.

It is written at the first start and followed ever after: facts may change, such as the number of
transfer images. It can be read, edited and given to another run: ``plan=runs/a/plan.yaml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genkt.io import write_text
from genkt.settings.written import as_texts, kept, read_yaml, write_yaml
from genkt.transfers.plan_rules import Derived
from genkt.types import UserError

PLAN = "plan.yaml"

_HEAD = """\
# What was derived for this run before it started. What the command says comes first.
# Edit a copy and give it to another run: genkt transfer ... plan={path}
"""


def write_plan(folder: Path, settings: Sequence[Derived]) -> None:
    """Write the plan of a run, unless it has one."""
    path = folder / PLAN
    if path.exists():
        return
    plain = {each.key: {"value": each.value, "why": each.why} for each in settings}
    write_text(path, _HEAD.format(path=path) + write_yaml(plain))


def read_plan(path: Path) -> list[Derived]:
    """The settings in a plan.

    Raises:
        UserError: the file is not there, or is no plan.
    """
    if not path.is_file():
        raise UserError.of("plan", "auto, off, or the plan.yaml of a run", path)
    settings = []
    for key, entry in as_texts(kept(read_yaml(path))).items():
        if not isinstance(entry, dict) or "value" not in entry:
            expected = "key: {value: ..., why: ...}"
            raise UserError.of(f"plan={path}", f"{expected} for each setting", f"{key}: {entry}")
        settings.append(Derived(key, str(entry["value"]), str(entry.get("why", ""))))
    return settings
