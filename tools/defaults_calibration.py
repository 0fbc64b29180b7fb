"""Runs a small grid of settings in the worlds of ``tools/defaults_worlds.py``.

    python tools/defaults_calibration.py OUT                       # all worlds, in turn
    python tools/defaults_calibration.py OUT --only letters icons  # these
    python tools/defaults_calibration.py OUT --table               # what is measured so far

The same command continues: ``OUT/NAME/calibration.json`` holds the runs that are done. Start one
command for some of the worlds and another for the others to use two cores.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from worlds.calibration import calibrate, read_cells
from worlds.calibration_table import table
from worlds.catalogue import WORLDS
from worlds.write_world import WORLD

from genkt.types import UserError


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is left, the world with the fewest runs first; or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*WORLDS], default=[*WORLDS])
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args(argv)
    worlds = [arguments.out / name for name in arguments.only]
    worlds = [world for world in worlds if (world / WORLD).is_file()]
    if arguments.table:
        print(table({world.name: read_cells(world) for world in worlds}))
        return
    logging.getLogger("genkt").setLevel(logging.ERROR)
    while worlds:
        world = min(worlds, key=lambda each: len(read_cells(each)))
        cell = calibrate(world, arguments.out / "scratch" / world.name)
        if cell is None:
            worlds.remove(world)
            continue
        print(world.name, cell["key"], f"{float(cell['test']):.3f}", flush=True)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"defaults_calibration: {error}")
