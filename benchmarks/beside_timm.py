"""Peak memory and time to the first step of ``genkt transfer`` over a plain loop of timm's parts.

    python benchmarks/beside_timm.py [--pairs 5] [--world FOLDER] [--train-py PATH/TO/timm/train.py]

Same student, teacher, images and batch: 3 000 files of 64 pixels, 100 of them labelled besides, and
a teacher with random weights, all written by this file. Each run is a process of its own, in turn,
with a test at the end. Its peak is that of its own resident memory, and, as genkt has a loader
process beside it, of what all its processes hold together, each shared page counted once. The first
step is counted from the start of the command: wall time, and processor time, which other programs
disturb less. genkt has its teacher outputs in the cache and its index of files, as from the second
run on. timm's loop (``timm_loop.py``) runs the teacher on every batch. ``--train-py`` adds timm's
own script, which is in its repository and not in its package; it trains on the labelled images
alone, without a teacher. ``--world`` keeps images and cache in a folder, for another time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from common import report
from PIL import Image

HERE = Path(__file__).parent
NUM_POOL, NUM_LABELLED, NUM_TEST, NUM_CLASSES, SIZE = 3000, 100, 200, 10, 64
STUDENT, TEACHER, BATCH, LABELLED, STEPS = "mobilenetv3_small_100", "resnet10t", 128, 20, 8
GOALS = {
    "over_timm_loop.peak_mb.ratio, over_timm_loop.together_mb.ratio": "<= 1.15",
    "over_timm_loop.seconds.ratio, over_timm_loop.cpu_seconds.ratio": "<= 1.2",
}


@dataclass(frozen=True)
class Measured:
    """One command.

    Args:
        peak_mb: largest resident memory of its process.
        together_mb: the same of all its processes, sampled.
        seconds, cpu_seconds: to the end of the optimizer's first step.
    """

    peak_mb: float
    together_mb: float
    seconds: float
    cpu_seconds: float


def write_world(root: Path) -> None:
    """The images, and the teacher as timm saves one."""
    generator = np.random.default_rng(0)

    def write(folder: Path, count: int) -> None:
        folder.mkdir(parents=True)
        for number in range(count):
            small = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
            large = small.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
            large.save(folder / f"{number:05d}.jpg", quality=90)

    for label in range(NUM_CLASSES):
        write(root / "data" / "train" / f"class{label}", NUM_LABELLED // NUM_CLASSES)
        write(root / "data" / "test" / f"class{label}", NUM_TEST // NUM_CLASSES)
    write(root / "pool" / "unlabelled", NUM_POOL)
    torch.manual_seed(1)
    teacher = timm.create_model(TEACHER, num_classes=NUM_CLASSES)
    torch.save(teacher.state_dict(), root / "teacher.pth")


def genkt_words(root: Path) -> list[str]:
    """``genkt transfer`` with the settings of the plain loop; everything else as it comes."""
    return [
        "genkt", "transfer", "data=folder", f"data.root={root}/data",
        f"data.unlabelled=[{root}/pool]", "data.validation_fraction=0",
        "transfer_set=unlabelled", "method=logit_kd", "draws=1", "baseline=false",
        f"student={STUDENT}", "student.pretrained=false", f"teacher={TEACHER}",
        "teacher.pretrained=false", f"teacher.weights={root}/teacher.pth", "teacher.adapt=none",
        f"teacher.args={{num_classes: {NUM_CLASSES}}}",
        *(f"{m}.transform={{input_size: [{SIZE}, {SIZE}]}}" for m in ("student", "teacher")),
        f"train.steps={STEPS}", f"train.batch_size={BATCH}", f"train.labelled_per_batch={LABELLED}",
        "finetune.steps=0", "train.eval_every=0", "plan=off", "device=cpu", f"out={root}/run",
        "overwrite=true",
    ]  # fmt: skip


def timm_words(root: Path) -> list[str]:
    """The plain loop."""
    sizes = {"classes": NUM_CLASSES, "size": SIZE, "batch": BATCH, "labelled": LABELLED,
             "steps": STEPS}  # fmt: skip
    said = {"student": STUDENT, "teacher": TEACHER, **sizes}
    return [
        str(HERE / "timm_loop.py"), str(root),
        *(word for name, value in said.items() for word in (f"--{name}", str(value))),
    ]  # fmt: skip


def script_words(script: Path, root: Path) -> list[str]:
    """timm's own script on the labelled images."""
    said = {
        "model": STUDENT, "num-classes": NUM_CLASSES, "img-size": SIZE, "opt": "adamw",
        "batch-size": NUM_LABELLED, "lr": 2e-3, "weight-decay": 0.02, "epochs": STEPS,
        "workers": 0, "device": "cpu", "val-split": "test", "output": root / "script",
    }  # fmt: skip
    return [
        str(script), str(root / "data"), "--no-prefetcher",
        *(word for name, value in said.items() for word in (f"--{name}", str(value))),
    ]  # fmt: skip


def measured(words: list[str], root: Path) -> Measured:
    """Run a command to its end."""
    found = os.environ | {"GENKT_CACHE": str(root / "cache")}
    found.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once
    started = time.time()
    process = subprocess.Popen(
        [sys.executable, str(HERE / "first_step.py"), *words], cwd=root, text=True, env=found,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    together, ended = 0.0, 0
    with ThreadPoolExecutor(2) as pool:
        said, told = pool.submit(process.stdout.read), pool.submit(process.stderr.read)
        while not ended:
            together = max(together, memory_mb(process.pid))
            time.sleep(0.25)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    if status:
        raise SystemExit(f"{words[0]} ended with status {status}:\n{told.result()[-2000:]}")
    first = json.loads(said.result().splitlines()[-1])
    return Measured(usage.ru_maxrss / 1024, together, first["at"] - started, first["cpu"])


def memory_mb(pid: int) -> float:
    """What a process and its children hold now; a page that they share is counted once.

    Files that are mapped, such as torch's libraries, are those of the process itself.
    """
    own = _pages(pid)
    return own["Rss"] - own["Anonymous"] + sum(_pages(each)["Pss_Anon"] for each in _family(pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _family(int(child))


def _pages(pid: int) -> Counter[str]:
    found: Counter[str] = Counter()
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split()[:2]
            found[name.rstrip(":")] = int(size) // 1024
    return found


def compared(runs: list[Measured], plain: list[Measured]) -> dict[str, Any]:
    """Medians of both, and of the ratios pair by pair with the smallest and the largest."""
    found: dict[str, Any] = {}
    for field in fields(Measured):
        pairs = [
            (getattr(a, field.name), getattr(b, field.name))
            for a, b in zip(runs, plain, strict=True)
        ]
        ratios = [a / b for a, b in pairs]
        found[field.name] = {
            "genkt": statistics.median(a for a, _ in pairs),
            "plain": statistics.median(b for _, b in pairs),
            "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios),
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--world", type=Path, help="keeps the images and the cache")
    parser.add_argument("--train-py", type=Path, help="timm's train.py, to run beside")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) if said.world is None else said.world.resolve()
        if not (root / "teacher.pth").is_file():
            write_world(root)
        commands = {"genkt": genkt_words(root), "timm_loop": timm_words(root)}
        if said.train_py:
            commands["train_py"] = script_words(said.train_py.resolve(), root)
        if not (root / "cache").is_dir():
            measured(commands["genkt"], root)  # fills it
        runs: dict[str, list[Measured]] = {name: [] for name in commands}
        for number in range(said.pairs):
            for name in list(commands)[:: -1 if number % 2 else 1]:
                runs[name].append(measured(commands[name], root))
                print(f"{name}: {runs[name][-1]}", file=sys.stderr, flush=True)
    genkt = runs.pop("genkt")
    results = {f"over_{name}": compared(genkt, plain) for name, plain in runs.items()}
    report("beside_timm", {"pairs": said.pairs, **results}, GOALS)


if __name__ == "__main__":
    main()
