"""Runs study=defaults in the worlds of ``tools/defaults_worlds.py``, and makes one table of it.

    python tools/defaults_study.py OUT                       # all worlds, one after the other
    python tools/defaults_study.py OUT --only letters icons  # these
    python tools/defaults_study.py OUT --table               # the table of what is stored, and
                                     # benchmarks/results/defaults-cpu.json with means over worlds

The same command continues. A world that is done has ``compare.json`` and ``scores.npz`` in
docs/defaults/NAME, or in --store. Start one command for some of the worlds and another for the
others to use two cores.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from worlds.catalogue import WORLDS
from worlds.study_table import read_studies, summary, table
from worlds.write_world import WORLD, words_of

from genkt.disk import make_folder
from genkt.io import write_json, write_text
from genkt.types import UserError

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "docs" / "defaults"
SUMMARY = ROOT / "benchmarks" / "results" / "defaults-cpu.json"


def run_world(world: Path, out: Path, store: Path) -> None:
    """Compare the arms in one world, and store what they give."""
    import genkt

    words = [*words_of(world), "study=defaults", "device=cpu", "executor=inline", f"out={out}"]
    result = genkt.compare(*words)
    if result.data.failed:
        raise UserError(f"{world.name}: {'; '.join(': '.join(arm) for arm in result.data.failed)}")
    make_folder(store)
    shutil.copy(out / "scores.npz", store / "scores.npz")
    told = (out / "compare.json").read_text(encoding="utf-8")
    write_text(store / "compare.json", told.replace(f"{world.parent}/", ""))


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is not stored; or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", choices=[*WORLDS], default=[*WORLDS])
    parser.add_argument("--store", type=Path, default=STORE)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args(argv)
    if arguments.table:
        studies = read_studies(arguments.store)
        print(table(studies))
        write_json(SUMMARY, {"benchmark": "defaults", "results": summary(studies)})
        return
    for name in arguments.only:
        world, store = arguments.out / name, arguments.store / name
        if not (world / WORLD).is_file():
            raise UserError(f"{world}: no world; python tools/defaults_worlds.py makes it")
        if not (store / "compare.json").is_file():
            run_world(world, arguments.out / "study" / name, store)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"defaults_study: {error}")
