"""Do useless teacher features hurt? A second teacher that sees nothing but noise is added.

    python benchmarks/noise_features.py OUT

The shipped teacher teaches the digits (2 labels a class, the rest of the pool unlabelled) alone and
beside a model whose features are drawn from N(0, 1), the same ones for the same picture (one stored
view of an image). Feature regression is a mean over all features, so its weight grows with their
number. OUT keeps all runs, so that the same command goes on where it was interrupted.

Claim: AFT learns to leave noise out and loses nothing, regression of features falls to plain
fine-tuning (Qiu et al., "Transferring Knowledge from Large Foundation Models to Small Downstream
Models", 2024, Fig. 6b and 6c).
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["OMP_NUM_THREADS"] = "1"  # two processes share the machine's cores

import torch
from common import report
from safetensors.torch import load_file
from torch import Tensor, nn

import genkt
from genkt.io import fingerprint
from genkt.metrics.scored_arms import DrawDesign, Scored, of_arm, of_pair
from genkt.metrics.verdicts import ends
from genkt.models.load import ModelSpec, load_model

KNOWN, WIDTHS = 256, (0, 512)
"""Features of the shipped teacher; features of noise beside them."""
METHODS = ("aft", "feature_kd", "rkd")
DRAWS = 5
SHARED = (
    "data=digits", "transfer_set=unlabelled", "data.views.num_views=4", f"draws={DRAWS}",
    "train.steps=160", "finetune.steps=40", "train.eval_every=0", "device=cpu", "baseline=false",
)  # fmt: skip


class Noise(nn.Module):
    """A model whose features [B, D] are N(0, 1), and the same whenever it sees the same image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.fc = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> logits [B, 10]."""
        rows = [
            torch.randn(self.width, generator=torch.Generator().manual_seed(_seed(image)))
            for image in images
        ]
        logits: Tensor = self.fc(torch.stack(rows))
        return logits


def _seed(image: Tensor) -> int:
    return int(fingerprint(image.contiguous().numpy().tobytes().hex())[:8], 16)


def teachers(width: int) -> list[genkt.Backbone]:
    """The shipped teacher, and noise of ``width`` features beside it."""
    shipped = load_model(ModelSpec("genkt:digits_teacher", channels_last=True), seed=0)
    if not width:
        return [shipped]
    torch.manual_seed(0)
    return [shipped, genkt.Backbone(Noise(width), shipped.transform, f"noise of {width} features")]


def run(job: tuple[str, str, int]) -> Scored:
    """The scores of the students on the test images."""
    out, method, width = job
    torch.set_num_threads(1)
    beta = 10 * (KNOWN + width) / KNOWN if method == "feature_kd" else 10
    own = ["method.mu_lr=0.1"] if method == "aft" else []  # 0.01 hardly moves in 160 steps
    result = genkt.transfer(
        *SHARED, f"method={method}", f"method.beta={beta:g}", *own, out=out,
        teacher=teachers(width),
    )  # fmt: skip
    return dict(result.report.scores[method])


def noise_weight(out: str) -> float | None:
    """Mean of AFT's learned weights on noise, over that on the teacher's features."""
    ratios = []
    for path in sorted(Path(out).glob("draws/*/aft/artifacts.safetensors")):
        weights = load_file(path)
        ratios.append((weights["weights.1"].mean() / weights["weights.0"].mean()).item())
    return sum(ratios) / len(ratios) if ratios else None


def main() -> None:
    """Train what is missing, then print the figures and write the JSON."""
    home = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/noise_features").resolve()
    jobs = [(str(home / f"{method}-{width}"), method, width)
            for method in METHODS for width in WIDTHS]  # fmt: skip
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = {(method, width): scores for (_, method, width), scores
                 in zip(jobs, pool.map(run, jobs), strict=True)}  # fmt: skip
    results: dict[str, Any] = {}
    for (method, width), scores in found.items():
        mean = of_arm(scores, DrawDesign())
        loss = of_pair(scores, found[method, 0], DrawDesign())
        assert mean is not None and loss is not None
        points = [100 * value for value in (loss.mean, loss.low, loss.high)]
        results[f"{method}, {width} noise features"] = {
            "accuracy": f"{100 * mean.mean:.1f} ({ends(mean)})",
            "minus_without_noise": points if width else None,
            "noise_weight": noise_weight(str(home / f"{method}-{width}"))
            if method == "aft" and width else None,
        }  # fmt: skip
    report("noise_features", results, {"aft": "loses nothing"})


if __name__ == "__main__":
    main()
