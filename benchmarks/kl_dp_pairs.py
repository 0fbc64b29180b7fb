"""Does KL+DP transfer between any two models? Six architectures teach one another, both ways.

    python benchmarks/kl_dp_pairs.py OUT
    python benchmarks/kl_dp_pairs.py --again     # the summary of the stored pairs, no training

Every model learns the digits from labels of its own; then each teaches each of the others on the
pool's images, without labels: by plain KL divergence, and by KL+DP (unsupervised selection). As a
control every student learns its own answers (pseudo-labels, no threshold) on the same images for as
long: what the images alone give. OUT keeps all runs, so that the same command goes on where it was
interrupted.

Claim: general knowledge transfer succeeds for most pairs, even from weaker teachers, where plain KL
does not (Roth et al., "Fantastic Gains and Where to Find Them", 2024, Table 2, Fig. 5).
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"  # two processes share the machine's cores

import numpy as np
import torch
from common import report, results_path
from scipy.special import stdtrit
from torch import Tensor

import genkt
from genkt.io import read_json, write_json
from genkt.metrics.flips import flips
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
"""Short name -> timm name, its arguments, labelled images per class that it learns from."""

METHODS = ("logit_kd", "kl_dp")
SHARED = (
    "data=digits", "draws=1", "baseline=false", "device=cpu", "seed=0", "train.eval_every=0",
    "train.save_seconds=600",
)  # fmt: skip
LEARNING = (
    "train.steps=60", "train.lr=5.0e-4", "train.labelled_per_batch=0", "data.views.num_views=4",
    "transfer_set=unlabelled", "data.labels_per_class=1", "first_draw=50",
)  # fmt: skip
PAIR = (
    "recipe=general_kt", "~recipe.stages.finetune", "recipe.stages.transfer.lr=5.0e-4",
    "teacher.adapt=none",
)  # fmt: skip
CONTROL = (
    "recipe=pseudo_label", "~recipe.stages.finetune", "~recipe.stages.last",
    "recipe.stages.pseudo_label.rounds=1", "recipe.stages.pseudo_label.threshold=0",
    "recipe.stages.pseudo_label.steps=60",
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
    models = [_exported(home, name) for name in (student, teacher)]
    words = (
        *SHARED, *LEARNING, *PAIR, f"method={method}", f"student={models[0]}",
        f"teacher={models[1]}", f"student.transform={SIDE}", f"teacher.transform={SIDE}",
    )  # fmt: skip
    return Run(str(home / method / f"{teacher}-to-{student}"), words)


def control_run(home: Path, student: str) -> Run:
    """A model learns its own answers."""
    words = (
        *SHARED, *LEARNING, *CONTROL, f"student={_exported(home, student)}",
        f"student.transform={SIDE}",
    )  # fmt: skip
    return Run(str(home / "control" / student), words)


def _exported(home: Path, name: str) -> str:
    return f'"local-dir:{home / "models" / name / "student"}"'


def prediction(folder: str) -> Prediction:
    """Test predictions of a run's student."""
    found = next(Path(folder).glob("draws/0/*/probabilities.npy"))
    probabilities = torch.from_numpy(np.load(found)).float()
    labels = test_labels()
    return Prediction(tuple(map(str, range(len(labels)))), labels, probabilities)


def test_labels() -> Tensor:
    """Of the embedded digits."""
    from genkt.data.builtin.digits import digits

    test = digits().test
    assert test is not None
    return torch.from_numpy(test.labels)


def measure(home: Path) -> dict[str, Any]:
    """Every pair's change in points, beside the student's own under the control."""
    before = {name: prediction(teacher_run(home, name).out) for name in MODELS}
    control = {
        name: 100 * (prediction(control_run(home, name).out).accuracy - before[name].accuracy)
        for name in MODELS
    }
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
    return {
        "accuracy": accuracies, "control": control, "pairs": pairs, "summary": summary(pairs),
    }  # fmt: skip


def summary(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Success rates and mean changes: over all pairs, and by which of the two is better."""
    groups = {
        "all": pairs,
        "stronger teacher": [pair for pair in pairs if pair["teacher_minus_student"] > 0],
        "weaker teacher": [pair for pair in pairs if pair["teacher_minus_student"] <= 0],
    }
    return {name: _summary(group) for name, group in groups.items() if group}


def _summary(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each method's share of pairs above 0 and above the student's control, and its mean change."""
    found: dict[str, Any] = {"pairs": len(pairs)}
    for method in METHODS:
        found[method] = {
            "gains": sum(pair[method] > 0 for pair in pairs),
            "above_control": sum(pair[method] > pair["control"] for pair in pairs),
            "points": _over_models(pairs, lambda pair, m=method: pair[m]),
            "minus_control": _over_models(pairs, lambda pair, m=method: pair[m] - pair["control"]),
        }  # fmt: skip
    found["kl_dp minus logit_kd"] = _over_models(pairs, lambda p: p["kl_dp"] - p["logit_kd"])
    return found


def _over_models(
    pairs: list[dict[str, Any]], value: Callable[[dict[str, Any]], float]
) -> list[float]:
    """[mean, low, high]: 95 % interval over models, for six others of their kind.

    A model is in many pairs, as teacher and as student, so pairs are not independent; models are.
    Jackknife: each model is left out with all of its pairs, and the spread of these means is that
    of the mean, with Student's t of one degree of freedom fewer than models. Where each pair is
    the sum of what its teacher and its student bring this is exact, with luck of single pairs it
    is wide rather than narrow (test_kl_dp_pairs.py). Test images and training seeds are those of
    this one run.

    Source: Snijders and Borgatti, "Non-parametric standard errors and tests for network
    statistics", 1999; theirs is half this variance, for nodes that bring nothing of their own.
    """
    values = np.array([value(pair) for pair in pairs])
    ends = np.array([(pair["teacher"], pair["student"]) for pair in pairs])
    models = sorted(set(ends.ravel()))
    without = np.array([values[(ends != model).all(axis=1)].mean() for model in models])
    num = len(models)
    error = np.sqrt((num - 1) / num * np.square(without - without.mean()).sum())
    mean, reach = values.mean(), stdtrit(num - 1, 0.975) * error
    return [float(mean), float(mean - reach), float(mean + reach)]


def run_all(runs: list[Run]) -> None:
    """Two at a time; finished ones are read back at once."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for index, accuracy in enumerate(pool.map(_run, runs)):
            print(
                f"[{index + 1}/{len(runs)}] {runs[index].out}: {100 * accuracy:.1f} %", flush=True
            )


def _run(run: Run) -> float:
    return run()


def summed_again() -> None:
    """Make the summary anew from the stored pairs; what trained them is said as before."""
    stored = read_json(results_path("kl_dp_pairs"))
    stored["results"]["summary"] = summary(stored["results"]["pairs"])
    print(write_json(results_path("kl_dp_pairs"), stored))


def main() -> None:
    """Train what is missing, then print the figures and write the JSON."""
    if sys.argv[1:] == ["--again"]:
        summed_again()
        return
    home = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/kl_dp_pairs").resolve()
    run_all([teacher_run(home, name) for name in MODELS])
    pairs = [(m, a, b) for m in METHODS for a, b in itertools.permutations(MODELS, 2)]
    run_all([control_run(home, name) for name in MODELS])
    run_all([pair_run(home, *pair) for pair in pairs])
    report(
        "kl_dp_pairs",
        measure(home),
        {"kl_dp": "gains for most pairs, where logit_kd does not; above the control"},
    )


if __name__ == "__main__":
    main()
