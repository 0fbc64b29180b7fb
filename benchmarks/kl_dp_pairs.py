"""Does KL+DP transfer between any two models? Six architectures teach one another, both ways.

    python benchmarks/kl_dp_pairs.py OUT

Every model learns the digits from labels of its own; then each teaches each of the others on the
pool's images, without labels: by plain KL divergence, by KL+DP (unsupervised selection), and as a
control every student is taught by its own frozen copy, on the same images for as long. OUT keeps
all runs, so that the same command goes on where it was interrupted.

Claim: general knowledge transfer succeeds for most pairs, even from weaker teachers, where plain KL
does not (Roth et al., "Fantastic Gains and Where to Find Them", 2024, Table 2, Fig. 5).
"""

from __future__ import annotations

import itertools
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"  # two processes share the machine's cores

import numpy as np
import torch
from common import report
from torch import Tensor

import genkt
from genkt.analysis.flips import flips
from genkt.analysis.statistics import paired_difference, wilson_interval
from genkt.types import Prediction

SIDE = "{input_size: [32,32], mean: [0.5,0.5,0.5], std: [0.5,0.5,0.5], crop_pct: 1.0}"
MODELS: dict[str, tuple[str, str, int]] = {
    "resnet": ("resnet18", "{layers: [1,1,1,1], channels: [16,32,64,128]}", 2),
    "convnext": ("convnext_atto", "{depths: [1,1,2,1], dims: [16,32,64,128], patch_size: 2}", 4),
    "xcit": ("xcit_nano_12_p8_224", "{img_size: 32, embed_dim: 64, depth: 3, num_heads: 4}", 20),
    "densenet": ("densenet121", "{growth_rate: 12, block_config: [2,2,2,2], stem_type: ''}", 10),
    "edgenext": ("edgenext_xx_small", "{}", 40),
    "mobilenet": ("mobilenetv3_small_050", "{}", 40),
}
"""Short name -> timm name, its arguments, labelled images a class that it learns from."""

METHODS = ("logit_kd", "kl_dp")
SHARED = (
    "data=digits", "draws=1", "baseline=false", "device=cpu", "seed=0", "train.eval_every=0",
    "train.save_seconds=600",
)  # fmt: skip
PAIR = (
    "recipe=general_kt", "~recipe.stages.finetune", "recipe.stages.transfer.lr=5.0e-4",
    "teacher.adapt=none", "train.steps=60", "train.labelled_per_batch=0", "data.views.num_views=4",
    "transfer_set=unlabelled", "data.labels_per_class=1", "first_draw=50",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One transfer: its folder, and what ``genkt transfer`` is told."""

    out: str
    words: tuple[str, ...]

    def __call__(self) -> float:
        torch.set_num_threads(1)
        return genkt.transfer(*self.words, out=self.out).accuracy


def teacher_run(home: Path, name: str) -> Run:
    """A model learns the digits from its own label draw."""
    timm_name, args, labels = MODELS[name]
    words = (
        *SHARED, "method=stl", "transfer_set=labelled", f"student={timm_name}",
        "student.pretrained=false", f"student.args={args}", f"student.transform={SIDE}",
        f"data.labels_per_class={labels}", f"first_draw={list(MODELS).index(name)}",
        "train.steps=200", "finetune.steps=0",
    )  # fmt: skip
    return Run(str(home / "models" / name), words)


def pair_run(home: Path, method: str, teacher: str, student: str) -> Run:
    """One model teaches another."""
    models = [f"local-dir:{home / 'models' / name / 'student'}" for name in (student, teacher)]
    words = (
        *SHARED, *PAIR, f"method={method}", f'student="{models[0]}"', f'teacher="{models[1]}"',
        f"student.transform={SIDE}", f"teacher.transform={SIDE}",
    )  # fmt: skip
    return Run(str(home / method / f"{teacher}-to-{student}"), words)


def prediction(folder: str) -> Prediction:
    """Test predictions of a run's student."""
    found = next(Path(folder).glob("draws/0/*/probabilities.npy"))
    probabilities = torch.from_numpy(np.load(found)).float()
    labels = test_labels()
    return Prediction(tuple(map(str, range(len(labels)))), labels, probabilities)


def test_labels() -> Tensor:
    """Of the embedded digits."""
    from genkt.data.embedded import digits

    test = digits().test
    assert test is not None
    return torch.from_numpy(test.labels)


def measure(home: Path) -> dict[str, Any]:
    """Every pair's change in points, beside the student's own under the control."""
    before = {name: prediction(teacher_run(home, name).out) for name in MODELS}
    control = {
        name: 100 * (prediction(pair_run(home, "kl_dp", name, name).out).accuracy
                     - before[name].accuracy)
        for name in MODELS
    }  # fmt: skip
    pairs = []
    for teacher, student in itertools.permutations(MODELS, 2):
        found = flips(before[student], before[teacher])
        row: dict[str, Any] = {
            "teacher": teacher,
            "student": student,
            "teacher_minus_student": 100 * (before[teacher].accuracy - before[student].accuracy),
            "positive_flips": 100 * found.positive,
            "control": control[student],
        }
        for method in METHODS:
            after = prediction(pair_run(home, method, teacher, student).out)
            row[method] = 100 * (after.accuracy - before[student].accuracy)
        pairs.append(row)
    accuracies = {name: 100 * found.accuracy for name, found in before.items()}
    return {"accuracy": accuracies, "pairs": pairs, "summary": summary(pairs)}


def summary(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Success rates and mean changes: over all pairs, and by which of the two is better."""
    groups = {
        "all": pairs,
        "stronger teacher": [pair for pair in pairs if pair["teacher_minus_student"] > 0],
        "weaker teacher": [pair for pair in pairs if pair["teacher_minus_student"] <= 0],
    }
    return {name: _summary(group) for name, group in groups.items()}


def _summary(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"pairs": len(pairs)}
    for method in (*METHODS, "control"):
        gains = sum(pair[method] > 0 for pair in pairs)
        low, high = wilson_interval(gains, len(pairs))
        found[method] = {
            "success_rate": gains / len(pairs), "success_interval": [low, high],
            "mean_points": float(np.mean([pair[method] for pair in pairs])),
        }  # fmt: skip
    for a, b in (("kl_dp", "logit_kd"), ("kl_dp", "control")):
        difference = paired_difference([p[a] for p in pairs], [p[b] for p in pairs])
        found[f"{a} minus {b}"] = {
            "points": difference.mean, "interval": [difference.low, difference.high],
            "note": "pairs share models: the interval is too narrow by as much",
        }  # fmt: skip
    return found


def run_all(runs: list[Run]) -> None:
    """Two at a time; finished ones are read back at once."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for index, accuracy in enumerate(pool.map(_run, runs)):
            print(
                f"[{index + 1}/{len(runs)}] {runs[index].out}: {100 * accuracy:.1f} %", flush=True
            )


def _run(run: Run) -> float:
    return run()


def main() -> None:
    """Train what is missing, then print the figures and write the JSON."""
    home = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/kl_dp_pairs").resolve()
    run_all([teacher_run(home, name) for name in MODELS])
    pairs = [(m, a, b) for m in METHODS for a, b in itertools.permutations(MODELS, 2)]
    pairs += [("kl_dp", name, name) for name in MODELS]
    run_all([pair_run(home, *pair) for pair in pairs])
    report("kl_dp_pairs", measure(home), {"success": "KL+DP above KL and above the control"})


if __name__ == "__main__":
    main()
