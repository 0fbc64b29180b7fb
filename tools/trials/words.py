"""Random command lines: each must end with code 0 or 2, a line per fault, and no traceback."""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import socket
from pathlib import Path
from typing import Any

import yaml

from genkt.cli.main import COMMANDS
from trials.bench import Bench, seeded
from trials.child import ROOT, SECRET

_SECONDS = 20.0
"""Then SIGINT: a long command is no fault, one that does not end then is."""
_MEMORY = 8 << 30
_FILE = 1 << 28
_COUNTS = re.compile(r"num_workers|num_threads|executor|address")
"""What would start processes by the million, or look for another machine."""
_CODES = (0, 2, 130, 143, -signal.SIGINT, -signal.SIGTERM)
_COMMANDS = tuple(COMMANDS)
_VALUES = (
    "-1", "0", "1", "2", "3", "7", "1e300", "-1e300", "1e-300", "inf", "-inf", "nan",
    "100000000000000000000", "0x10", "1_000", "true", "false", "null", "None", "''", '""', "[]",
    "{}", "[", "]", "{", "}", "[1,2", "{a: 1}", "[[[[]]]]", "[1,null,a]", "a,b", "1,2,3",
    "${oc.env:HOME}", "${oc.env:SECRET_TOKEN}", "${nothing}", "${out}", "${", "$HOME", "???", "é",
    "日本語", "a\u0301", "\u202e", "\u200b", "\U0001f600", "\x1b[31m", "a\nb", "a\tb", "\r", "\x07",
    "'", '"', "'\"", "a'b", "\\", "a b", " ", "=", "a=b", "==", "#", "a#b", "*", "?", "~", "!",
    "&&", ";", "`id`", "%s", "{0}", "resnet18", "resnet1888", "cpu", "cuda", "auto", "folder",
    "digits", "logit_kd", "stl", "hf:nothing", "torchvision:CIFAR10:nowhere", "hf-hub:a/b",
    "local-dir:nowhere", "genkt:nothing", "x" * 300, "y" * 20000, "1 2", "1.5", "-0.0", "+1",
    "1e3", "range(1,3)", "choice(1,2)", "interval(0,1)", "glob(*)", "\udcff",
)  # fmt: skip


def _flat(value: Any, prefix: str = "") -> list[str]:
    if not isinstance(value, dict):
        return [prefix]
    return [
        key for name, each in value.items() for key in _flat(each, f"{prefix}.{name}".strip("."))
    ]


def keys_of(command: str) -> list[str]:
    """The keys of a command and of the alternatives of its groups."""
    configs = ROOT / "configs"
    plain = yaml.safe_load((configs / f"{command}.yaml").read_text(encoding="utf-8"))
    defaults = plain.pop("defaults", [])
    groups = [name for entry in defaults if isinstance(entry, dict) for name in entry]
    keys = _flat(plain) + groups
    for group in groups:
        for path in sorted((configs / group).glob("*.yaml")):
            keys += [f"{group}.{key}" for key in _flat(yaml.safe_load(path.read_text("utf-8")))]
    return sorted({key for key in keys if not key.startswith("hydra") and not _COUNTS.search(key)})


def places(home: Path) -> list[str]:
    """Files, folders, links and devices made for the test, in the home folder."""
    folder = home / "places"
    folder.mkdir(exist_ok=True)
    (folder / "a file").write_text("text")
    (folder / "empty.png").write_bytes(b"")
    (folder / "folder ü").mkdir(exist_ok=True)
    for name, target in (("link", "nowhere"), ("loop", "loop"), ("up", "folder ü")):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(target)
    if not (folder / "pipe").exists():
        os.mkfifo(folder / "pipe")
    if not (folder / "socket").exists():
        here = os.open(folder, os.O_RDONLY)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    (folder / "closed").mkdir(mode=0, exist_ok=True)
    (folder / "list.csv").write_text("path,label\na.png,cat\n")
    (folder / "bad.json").write_text('{"a": [1,')
    names = sorted(str(path) for path in folder.iterdir())
    return [*names, str(home / "run"), str(home / "images"), "missing", "places/a file/below", "."]


class RandomWords:
    """Trials of this kind."""

    name = "words"

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.seed = bench, seed
        self._keys = {command: keys_of(command) for command in _COMMANDS}

    def title(self, trial: int) -> str:
        """The command line, shortened."""
        return (
            " ".join(word[:40] for word in self._words(trial, []))
            .encode("unicode_escape")
            .decode()[:160]
        )

    def run(self, trial: int) -> list[str]:
        """Run the random words in a home with a finished run."""
        self.bench.restore(self.bench.reference("transfer").after)
        made = places(self.bench.home)
        rng = seeded(self.seed, "fresh", trial)
        words = [word for word in self._words(trial, made) if "\0" not in word]

        def setup() -> None:
            resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
            resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE, _FILE))

        ended = self.bench.run(
            words, setup=setup, limit=_SECONDS, end_with=signal.SIGINT, fresh=rng.random() < 0.04
        )
        faults = self.bench.faults(ended, _CODES)
        told = [word for word in words if SECRET in word]
        return [fault for fault in faults if not (told and "secret" in fault)]

    def _words(self, trial: int, made: list[str]) -> list[str]:
        rng = seeded(self.seed, self.name, trial)
        command = rng.choice(_COMMANDS)
        words = self._base(command, rng)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
            self._mutate(command, words, made or ["PLACE"], rng)
        if rng.random() < 0.02:
            command = rng.choice(("", "help", "--help", "-V", "tranfer", "transfer=1", "--", "é"))
        return [command, *words]

    def _base(self, command: str, rng: random.Random) -> list[str]:
        home = self.bench.home
        other = rng.choice(("new", "run"))
        if command in self.bench.names(lambda case: case.writes):
            words = self.bench.reference(command).words[1:]
            return [word.replace(f"out={home}/run", f"out={home}/{other}") for word in words]
        if command == "inspect":
            return [str(home / "set")]
        if command == "analyze":
            data = ["data=folder", f"data.root={home / 'images'}", "device=cpu"]
            return [f"models=[{home / 'run'},{home / 'run' / 'student'}]", *data]
        return [f"out={home / other}"]

    def _mutate(self, command: str, words: list[str], made: list[str], rng: random.Random) -> None:
        value = rng.choice(made) if rng.random() < 0.25 else rng.choice(_VALUES)
        key = rng.choice(self._keys[command])
        place = rng.randrange(len(words)) if words else 0
        how = rng.randrange(9)
        if how <= 2 or not words:
            words.append(f"{key}={value}")
        elif how == 3:
            given = words[place].partition("=")[0]
            words[place] = words[place] if _COUNTS.search(given) else f"{given}={value}"
        elif how == 4:
            del words[place]
        elif how == 5:
            words.insert(rng.randrange(len(words) + 1), words[place])
        elif how == 6:
            words[place] = rng.choice(("+", "++", "~", "-", "--")) + words[place]
        elif how == 7:
            at = rng.randrange(len(words[place]) + 1)
            if not _COUNTS.search(words[place]):
                words[place] = (
                    words[place][:at] + rng.choice("é=.,/[]{}'\" $x1") + words[place][at:]
                )
        else:
            words.insert(rng.randrange(len(words) + 1), value)
