"""Tries to break runs: kills, damages, random words, full disks, odd environments.

    python tools/campaign.py --minutes 90 --seed 0
    python tools/campaign.py --only kills --trial 17     # one trial again, as the log names it
    python tools/campaign.py --minutes 90 --write docs/campaign.md

Every trial runs a tiny command of genkt in a temporary folder, disturbs it, and repeats it: the
results must be those of a command that nobody disturbed, to the byte, or one line must say what is
wrong. Exits with 1 where a trial found a fault.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: forks of it must have no threads
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from trials import sandbox  # noqa: E402
from trials.table import Tally, page, table  # noqa: E402

SHARES = {"kills": 0.4, "damages": 0.25, "words": 0.15, "disks": 0.1, "environments": 0.1}
"""Of the time, what each kind gets; what one leaves the later ones share."""

ABOUT = (
    "A campaign of seeded trials tries to break runs of genkt, with tiny pictures and models. "
    "Kills: a run is ended by SIGKILL at a point where it writes, at a random time, twice, or one "
    "of its processes is; the same command must end with the results of an undisturbed run, to the "
    "byte, and leave nothing else. Damages: a file of a run, set, cache or generator is changed, "
    "replaced or deleted; the same command and those that read the run must give the same results "
    "or name the place. Words: random command lines end with code 0 or 2 and no traceback. Disks: "
    "a disk of a random size fills up, and later has more room. Environments: closed streams, odd "
    "variables, few file handles, signals, two commands at once. After every trial no process and "
    "nothing in /dev/shm may be left."
)


class Kind(Protocol):
    """A kind of trial."""

    name: str

    def title(self, trial: int) -> str:
        """What a trial does, in a few words."""

    def run(self, trial: int) -> list[str]:
        """Do it; what is wrong, one line per fault."""


def main(words: Sequence[str] | None = None) -> int:
    """Run the campaign; returns the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    options = _options(words)
    isolated = sandbox.isolate()
    work = Path(tempfile.mkdtemp(prefix="genkt-campaign-"))
    try:
        tallies = _campaign(options, work, isolated=isolated)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(table(tallies))
    if options.write:
        notes = [] if isolated else ["Trials were not confined: no right to mount."]
        options.write.write_text(page(tallies, words, ABOUT, notes), encoding="utf-8")
    return int(any(tally.faulty for tally in tallies))


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Try to break runs of genkt.")
    parser.add_argument("--minutes", type=float, default=90.0, help="for all trials together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(SHARES), help="kinds, with commas between them")
    parser.add_argument("--commands", default="", help="of trials/cases.py, with commas; all")
    parser.add_argument("--count", help="so many trials a kind, whatever the minutes; or 12,4,...")
    parser.add_argument("--trial", type=int, help="this trial alone")
    parser.add_argument("--write", type=Path, help="a page with the results")
    parser.add_argument("--keep", type=Path, help="a folder for the files of faulty trials")
    parser.add_argument("--defect", default="", help="Python that every forked command runs first")
    options = parser.parse_args(words)
    options.only = options.only.split(",")
    options.commands = options.commands.split(",") if options.commands else []
    if unknown := [name for name in options.only if name not in SHARES]:
        parser.error(f"--only: expected some of {', '.join(SHARES)}, got {', '.join(unknown)}")
    counts = [int(number) for number in options.count.split(",")] if options.count else [None]
    options.counts = dict(zip(options.only, counts * len(options.only), strict=False))
    return options


def _campaign(options: argparse.Namespace, work: Path, *, isolated: bool) -> list[Tally]:
    from trials.bench import Bench
    from trials.damages import Damages
    from trials.disks import Disks
    from trials.environments import Environments
    from trials.kills import Kills
    from trials.words import RandomWords

    bench = Bench(work, isolated, options.defect, options.commands)
    known = (Kills, Damages, RandomWords, Disks, Environments)
    kinds: list[Kind] = [kind(bench, options.seed) for kind in known if kind.name in options.only]
    if not isolated:
        print("campaign: no right to mount: trials can write outside their folder", file=sys.stderr)
    ends = time.monotonic() + 60 * options.minutes
    tallies = []
    for place, kind in enumerate(kinds):
        share = SHARES[kind.name] / sum(SHARES[other.name] for other in kinds[place:])
        until = time.monotonic() + share * (ends - time.monotonic())
        tallies.append(_trials(kind, options, until, work))
    return tallies


def _trials(kind: Kind, options: argparse.Namespace, until: float, work: Path) -> Tally:
    tally = Tally(kind.name)
    trial = options.trial or 0
    while True:
        if options.trial is not None and trial > options.trial:
            return tally
        count = options.counts[kind.name]
        if count is not None and trial >= count:
            return tally
        if count is None and options.trial is None and time.monotonic() > until:
            return tally
        started = time.monotonic()
        faults = _tried(kind, trial)
        seconds = time.monotonic() - started
        tally.add(seconds, faults)
        repeat = f"--seed {options.seed} --only {kind.name} --trial {trial}"
        end = f"FAULT {faults[0]}" if faults else "ok"
        print(f"{repeat}: {kind.title(trial)}: {end} ({seconds:.1f} s)", flush=True)
        if faults and options.keep:
            _keep(options.keep / f"{kind.name}-{trial}", work, [repeat, *faults])
        trial += 1


def _tried(kind: Kind, trial: int) -> list[str]:
    """A trial that the campaign itself cannot do is a fault as well, and the others go on."""
    try:
        return kind.run(trial)
    except Exception as error:
        traceback.print_exc()
        return [f"the campaign: {type(error).__name__}: {str(error)[:300]}"]


def _special(folder: str, names: list[str]) -> list[str]:
    """Pipes and sockets, which cannot be copied."""
    places = [Path(folder, name) for name in names]
    return [each.name for each in places if each.exists() and not (each.is_file() or each.is_dir())]


def _keep(target: Path, work: Path, lines: Sequence[str]) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in work.iterdir():
        if path.name == "home":
            shutil.copytree(path, target / "home", symlinks=True, ignore=_special)
        elif path.name.startswith(("out-", "err-")):
            shutil.copy(path, target)
    (target / "faults.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
