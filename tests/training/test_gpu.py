"""What only a CUDA device can show; skips itself without one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from training_cases import METHODS, Case, tiny_resnet, weights

from genkt.training.fabric import make_fabric
from genkt.training.loop import train

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", METHODS)
def test_the_gpu_gives_what_the_cpu_gives(tmp_path: Path, method: str) -> None:
    case = Case(tmp_path / "cpu", method).with_settings(optimizer="sgd")
    on_cpu = weights(case.run()[0])
    gpu = dataclasses.replace(case, directory=tmp_path / "gpu", fabric=make_fabric("fp32", "cuda"))
    on_gpu = weights(gpu.run()[0])
    for name, value in on_cpu.items():
        torch.testing.assert_close(value, on_gpu[name].cpu(), rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_half_precision_learns(
    tmp_path: Path, method: str, precision: str, clip: float | None
) -> None:
    case = Case(tmp_path, method, fabric=make_fabric(precision, "cuda"))  # type: ignore[arg-type]
    case = case.with_settings(steps=60, lr=3e-2, clip_grad=clip, precision=precision, ema=0.9)
    stage, curve = case.run()
    assert curve[-1]["cross_entropy"] < 0.7 * curve[0]["cross_entropy"]
    assert all(value.isfinite().all() for value in weights(stage).values())


def test_memory_that_runs_out_halves_the_micro_batches(tmp_path: Path) -> None:
    case = Case(tmp_path, fabric=make_fabric("fp32", "cuda"), student=tiny_resnet)
    case = case.with_settings(batch_size=1536, labelled_per_batch=512, steps=3)
    stage = case.stage()
    needed = _peak_of(Case(tmp_path / "free", fabric=case.fabric, student=tiny_resnet), case)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.7 * needed / total)
    try:
        assert case.fabric is not None
        train(case.fabric, stage)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    state = torch.load(tmp_path / "stage" / "state.pt", weights_only=True)
    assert state["progress"]["accumulate"] > 1


def _peak_of(free: Case, like: Case) -> int:
    torch.cuda.reset_peak_memory_stats()
    dataclasses.replace(free, settings=like.settings).run()
    return torch.cuda.max_memory_reserved()
