"""Command lines that nobody meant: a message and exit code 2, never a traceback."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from test_configs import KINDS
from tiny import run

from genkt.cli import main as entry
from genkt.cli.app import check_jobs
from genkt.cli.main import COMMANDS
from genkt.cli.positional import with_positionals
from genkt.config.read_config import read_config
from genkt.settings.words import sort_words

PLACES = {
    "predict": ("run", "images"), "inspect": ("set", None), "export": ("run", None),
    "convert": ("checkpoint", None),
}  # fmt: skip
KEYS = [
    "out", "seed", "data", "data.root", "data.views", "data.views.scale", "train.lr", "train",
    "student", "teacher", "student.args", "student.transform.std", "method", "method.beta",
    "recipe", "recipe.stages", "recipe.stages.x.do", "experiment", "transfer_set.root", "images",
    "run", "set", "models", "model", "hydra", "hydra.run.dir", "hydra.nope", "hydra/launcher",
    "study", "study.arms.a", "methods", "gallery", "generator", "encoder", "synthesis", "executor",
    "draws", "checkpoint", "top", "opset", "batch_size", "a.b.c", "train.lr.x", "é", "1", "",
]  # fmt: skip
VALUES = [
    "1", "-1", "1e309", "nan", "null", "true", "x", "digits", "folder", "aft", "[a,b]", "[", "{",
    "{a:1}", "{a:{b:[1,2]}}", "a,b", "1,2", "${x}", "${oc.env:HOME}", "???", "'", '"', "''", "\\",
    "choice(1,2)", "range(1,3)", "glob(*)", "sort(1,2)", "a=b", "~", "~/x", "\x1b[2J", "\u202e",
    "\ue000", "9" * 500, "x" * 5000, "/etc/passwd", "[null]", "[[],{}]", "{do: distil}", "[?]", "",
]  # fmt: skip
FLAGS = ["-m", "--config-dir", "--config-name", "-cn=x", "--config-dir=.", "-x", "--a=b", "-", "~"]


NOT_OURS = [
    "Traceback", "Could not", "no viable", "mismatched", "Ambiguous", "Error merging", "struct",
    "token recognition", "Interpolation key", "extraneous", "override",
]  # fmt: skip
"""Words of hydra's and of Python's."""


def word(draw: random.Random) -> str:
    """A word, often mutated by a letter."""
    kind = draw.random()
    if kind < 0.1:
        return draw.choice(FLAGS)
    prefix = draw.choice(["", "", "", "", "+", "++", "~"])
    text = f"{prefix}{draw.choice(KEYS)}={draw.choice(VALUES)}"
    if kind < 0.2:
        text = draw.choice([text.partition("=")[0], draw.choice(VALUES)])
    if kind > 0.7:
        place = draw.randrange(len(text) + 1)
        text = text[:place] + draw.choice("=.,@/+~[]{}:'\"\\ $#é\n") + text[place + 1 :]
    return text


@pytest.mark.parametrize("command", COMMANDS)
def test_any_words_end_in_a_message(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = {each.__name__.removesuffix("Config").lower(): each for each in KINDS}[command]

    def parsed(words: list[str]) -> Any:
        first, others = PLACES.get(command, ("", None))
        words = with_positionals(words, first, others) if first else words
        if (found := sort_words(words, command)).multirun:
            return check_jobs(kind, command, found)
        return read_config(kind, command, words)

    shim = SimpleNamespace(import_module=lambda name: SimpleNamespace(run=parsed))
    monkeypatch.setattr(entry, "importlib", shim)
    draw = random.Random(command)
    for _ in range(24):
        words = [word(draw) for _ in range(draw.randint(1, 5))]
        words = [each for each in words if each not in ("-h", "--help")]
        ran = run(command, *words)
        assert ran.code in (0, 2), words
        assert (ran.code == 2) == bool(ran.lines), words
        assert len(ran.err) < 20_000 and "\x1b" not in ran.err and "\u202e" not in ran.err
        assert not any(phrase in ran.err for phrase in NOT_OURS), ran.err
