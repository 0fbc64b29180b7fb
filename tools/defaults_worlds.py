"""Writes eleven small worlds as folders, on which the default settings are measured.

    python tools/defaults_worlds.py OUT                 # all, about fifteen minutes of one core
    python tools/defaults_worlds.py OUT --only letters  # one

Each has its teacher, its student and the words of its runs in ``OUT/NAME/world.json``. The same
command leaves worlds that are there as they are. Some need packages (docs/worlds.md); they are
looked for in $GENKT_PACKAGES, or in --packages.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from worlds.catalogue import WORLDS
from worlds.write_world import WORLD, write_world

from genkt.io import read_json
from genkt.types import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Write them, and say where they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*WORLDS], default=[*WORLDS])
    parser.add_argument("--packages", type=Path, default=os.environ.get("GENKT_PACKAGES", "."))
    arguments = parser.parse_args(argv)
    for name in arguments.only:
        folder = write_world(name, arguments.out.resolve(), Path(arguments.packages).resolve())
        about = read_json(folder / WORLD)
        print(f"{folder}: {about['counts']}, teacher {about['teacher_right']}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"defaults_worlds: {error}")
