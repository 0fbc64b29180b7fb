"""The commands that the campaign runs, on the tests' tiny pictures and models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from trials.child import ROOT

sys.path.insert(0, str(ROOT / "tests"))

import compare_cases
import prime_cases
import retrieval_cases
from tiny import DATA, model_words, transfer_words, write_images

GENERATED = ["transfer_set=digg", "transfer_set.num_images=26"]
POOL = ["executor=pool", "executor.num_workers=2"]
RESULTS = (
    r"^(run|saved)/(report\.json|student/(?!README)"
    r"|draws/\d+/(seed\d+/)?\w+/(student\.|probabilities|result))"
    r"|^comparison/compare\.json$"
)
SAVED_OFTEN = "train.save_seconds=0"


@dataclass(frozen=True)
class Case:
    """A command of the campaign.

    Args:
        words: of the command in a home folder; also writes there what it reads.
        after: the case whose finished home it starts from; "" for one of its own.
        processes: it starts others: worker processes of a pool or a loader.
        writes: it leaves files.
        results: matches the files that it vouches for whenever it ends well; what else is damaged
            may stay so until a command reads it.
    """

    name: str
    words: Callable[[Path], list[str]]
    after: str = ""
    processes: bool = False
    writes: bool = True
    results: str = RESULTS


def generator(home: Path) -> Path:
    """The folder of a tiny generator, written if missing."""
    from tiny_generator import save_tiny_generator

    folder = home / "generator"
    return folder if folder.is_dir() else save_tiny_generator(folder)


def _images(home: Path) -> Path:
    folder = home / "images"
    return folder if folder.is_dir() else write_images(folder)


def _transfer(home: Path, *more: str) -> list[str]:
    words: list[str] = transfer_words(home, SAVED_OFTEN, "executor=inline", *more)
    return words


def _chosen(home: Path) -> list[str]:
    """Every choice of a run on folds, and two students a draw that share them."""
    chosen = ["seeds_per_draw=2", "validation=cross", "cross_validate=true", "teacher.adapt=better"]
    searched = ["method=aft", "method.beta=search", "method.beta_grid=[1,5]"]
    return _transfer(home, *chosen, *searched, "data.validation_fraction=0")


def _generated(home: Path, *more: str) -> list[str]:
    made = [*GENERATED, f"transfer_set.generator={generator(home)}"]
    words: list[str] = transfer_words(home, SAVED_OFTEN, *made, "draws=2", *more)
    return words


def _synthesize(home: Path, *more: str) -> list[str]:
    words = [f"data.root={_images(home)}", f"generator={generator(home)}", f"out={home / 'set'}"]
    return [
        "synthesize", "data=folder", *words, "method=digg", "num_images=20", "shard_size=6",
        "device=cpu", "num_threads=2", *more,
    ]  # fmt: skip


def _retrieve(home: Path) -> list[str]:
    if not (home / "gallery").is_dir():
        retrieval_cases.make_home(home)
    words: list[str] = retrieval_cases.words(home, "executor=inline")
    return words


def _compare(home: Path) -> list[str]:
    words: list[str] = compare_cases.compare_words(home, "draws=1", SAVED_OFTEN)
    return words


def _cache(home: Path, *more: str) -> list[str]:
    data = [*DATA, f"data.root={_images(home)}", "transfer_set=unlabelled"]
    return [
        "cache", *data, *model_words("teacher"), "draws=1", "batch_size=8", "device=cpu",
        f"cache={home / 'cache'}", *more,
    ]  # fmt: skip


def _predict(home: Path) -> list[str]:
    output = f"output={home / 'answers.json'}"
    return ["predict", str(home / "run"), str(_images(home) / "cat"), "format=json", output]


def _evaluate(home: Path) -> list[str]:
    data = ["data=folder", f"data.root={_images(home)}", "data.test_fraction=0.3"]
    output = f"output={home / 'accuracy.json'}"
    return ["evaluate", f"model={home / 'run'}", *data, "device=cpu", output]


def _export(home: Path) -> list[str]:
    return ["export", str(home / "run")]


def _saved(home: Path) -> list[str]:
    words = ["transfer_set=saved", f"transfer_set.root={home / 'set'}", f"out={home / 'saved'}"]
    return _transfer(home, *words)


def _primed(home: Path) -> list[str]:
    return _synthesize(home, f"generator={home / 'run' / 'generator'}", "executor=inline")


def _inspect(home: Path) -> list[str]:
    return ["inspect", str(home / "set")]


def _inspect_out(home: Path) -> list[str]:
    return ["inspect", str(home / "set"), f"out={home / 'inspected'}"]


def _analyze(home: Path) -> list[str]:
    data = ["data=folder", f"data.root={_images(home)}", "data.test_fraction=0.3", "device=cpu"]
    models = f"models=[{home / 'run'},{home / 'run' / 'student'}]"
    return ["analyze", models, *data, "overwrite=true", f"out={home / 'analysis'}"]


def _prime(home: Path) -> list[str]:
    return ["prime", *prime_cases.prime_words(home / "run")]


CASES = {
    case.name: case
    for case in (
        Case("transfer", _transfer),
        Case("transfer chosen", _chosen),
        Case("transfer digg", lambda home: _generated(home, "executor=inline")),
        Case("transfer pool", lambda home: _generated(home, *POOL), processes=True),
        Case(
            "transfer loader", lambda home: _transfer(home, "train.num_workers=1"), processes=True
        ),
        Case("synthesize", lambda home: _synthesize(home, "executor=inline")),
        Case("synthesize pool", lambda home: _synthesize(home, *POOL), processes=True),
        Case("retrieve", _retrieve),
        Case("compare", _compare),
        Case("cache", lambda home: _cache(home, "executor=inline"), results=r"^cache/"),
        Case("cache pool", lambda home: _cache(home, *POOL), processes=True),
        Case("prime", _prime),
        Case("predict", _predict, after="transfer"),
        Case("evaluate", _evaluate, after="transfer"),
        Case("export", _export, after="transfer"),
        Case("transfer synthesis", _saved, after="synthesize"),
        Case("transfer retrieval", _saved, after="retrieve"),
        Case("inspect", _inspect, after="synthesize", writes=False),
        Case("synthesize primed", _primed, after="prime"),
        Case("inspect out", _inspect_out, after="synthesize"),
        Case("analyze", _analyze, after="transfer"),
    )
}
READERS = {
    "transfer": ("predict", "evaluate", "export"),
    "synthesize": ("transfer synthesis", "inspect"),
    "retrieve": ("transfer retrieval",),
    "prime": ("synthesize primed",),
}
"""The commands that read what a command has made."""
