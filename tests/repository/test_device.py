"""All that runs on a device, on a CUDA device that is none: devices that do not mix, and no wait
for the device that is not listed (``device_waits.KNOWN``)."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from device_cases import DEVICE_CASES, EVERY_OBJECTIVE, loss_calls, training
from device_waits import KNOWN, TO_DEVICE
from fake_cuda import PACKAGE, Wait, fake_cuda, shadow
from torch import Tensor
from torch.utils._pytree import tree_map

from genkt import losses, methods
from genkt.losses import numerics
from genkt.methods.base import Objective
from genkt.training.loop import _Run

CONSTANTS = Wait("data/transform.py:_constants", TO_DEVICE)


@functools.cache
def waits_of(name: str) -> frozenset[Wait]:
    """Run a case on both devices; the results must be the same."""
    with tempfile.TemporaryDirectory() as home:
        expected = DEVICE_CASES[name]("cpu", Path(home) / "cpu")
        with fake_cuda() as device:
            found = tree_map(shadow, DEVICE_CASES[name]("cuda", Path(home) / "cuda"))
    # A pixel may be rounded the other way, half a step of 1 / 255.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=4.1e-3)
    return frozenset(device.waits)


@pytest.mark.parametrize("name", DEVICE_CASES)
def test_a_device_gives_what_the_cpu_gives_and_waits_where_it_must(name: str) -> None:
    new = waits_of(name) - KNOWN.keys()
    assert not new, f"avoid them, or list them with a reason in tests/device_waits.py: {new}"


def test_every_listed_wait_still_occurs() -> None:
    found = frozenset[Wait]().union(*map(waits_of, DEVICE_CASES))
    assert KNOWN.keys() <= found, "no longer there: take them out of tests/device_waits.py"


def test_every_objective_of_the_package_is_tried() -> None:
    for module in pkgutil.iter_modules(methods.__path__):
        importlib.import_module(f"genkt.methods.{module.name}")
    tried = {kind for kind, _ in EVERY_OBJECTIVE}
    assert {kind for kind in _below(Objective) if kind.options_type is not None} == tried


def _below(kind: type[Objective]) -> Iterator[type[Objective]]:
    for member in kind.__subclasses__():
        if member.__module__.startswith("genkt."):
            yield member
            yield from _below(member)


def test_every_loss_of_the_package_is_called() -> None:
    helpers = set(vars(numerics))
    assert set(loss_calls("cpu")) == {name for name in losses.__all__ if name not in helpers}


@pytest.mark.parametrize("method", ["stl", "kd", "aft", "bilevel", "l2", "kl_dp", "crd"])
def test_a_step_of_training_does_not_wait(method: str, tmp_path: Path) -> None:
    """Save for the constants of a transform, and the counter of an earlier training (crd)."""
    counts, step = list[int](), _Run._step
    with fake_cuda() as device:

        def counted(run: _Run, batch: Any) -> None:
            before = Counter(device.waits)
            step(run, batch)
            waits = device.waits - before
            counts.append(waits.total() - waits[CONSTANTS])

        with patch.object(_Run, "_step", counted):
            training(method)("cuda", tmp_path)
    assert counts == [int(method == "crd"), 0, 0]


def in_genkt(code: str, **names: Any) -> None:
    """Run code as if it stood in the package."""
    exec(compile(code, f"{PACKAGE}place.py", "exec"), {"torch": torch, **names})


@pytest.mark.parametrize(("code", "what"), [
    ("x.sum().item()", "item"), ("x.tolist()", "item"), ("float(x.sum())", "item"),
    ("1 if x.isfinite().all() else 0", "item"), ("x.cpu()", "copy to the CPU"),
    ("torch.empty(3).copy_(x)", "copy to the CPU"),
    ("torch.empty(3).copy_(x, non_blocking=True)", "copy to the CPU"),
    ("x.nonzero()", "nonzero"), ("x[x > 0]", "index"), ("x[x > 0] = x[x > 0]", "index_put_"),
    ("torch.masked_select(x, x > 0)", "masked_select"), ("torch.equal(x, x)", "equal"),
    ("torch.unique(x)", "_unique2"), ("x.repeat_interleave((x > 0).long())", "repeat_interleave"),
    ("x[[0, 1]]", "index on the CPU"), ("x[torch.tensor([0, 1])]", "index on the CPU"),
    ("torch.tensor([1.0], device=x.device)", "copy to the device"),
    ("torch.ones(3).to(x.device)", "copy to the device"),
    ("torch.bincount((x > 0).long())", "bincount"), ("torch.cuda.Event().synchronize()", "event"),
])  # fmt: skip
def test_a_hidden_wait_is_seen(code: str, what: str) -> None:
    with fake_cuda() as device:
        in_genkt(code, x=torch.tensor([1.0, -2.0, 3.0]).to("cuda"))
    assert Wait("place.py:<module>", what) in device.waits


@pytest.mark.parametrize("code", [
    "torch.where(x > 0, x, 0.0)", "x[x > 0] = 0.0", "x.masked_fill(x > 0, 1)", "x + 1", "x[0]",
    "torch.ones(3).to(x.device, non_blocking=True)", "x[torch.arange(2, device=x.device)]",
    "torch.empty(3, pin_memory=True).copy_(x, non_blocking=True)", "x.repeat_interleave(2)",
    "x.to(x.device)", "x.sum().requires_grad_().square().backward()", "torch.ones(3).tolist()",
])  # fmt: skip
def test_what_goes_on_at_once_is_no_wait(code: str) -> None:
    with fake_cuda() as device:
        in_genkt(code, x=torch.tensor([1.0, -2.0, 3.0]).to("cuda"))
    assert not device.waits


@pytest.mark.parametrize("code", [
    "x + torch.ones(3)", "x @ torch.ones(3)", "torch.stack([x, torch.ones(3)])",
    "torch.rand(3, device=x.device, generator=torch.Generator())",
    "torch.nn.functional.mse_loss(x.requires_grad_(), torch.ones(3)).backward()",
])  # fmt: skip
def test_devices_do_not_mix(code: str) -> None:
    with fake_cuda(), pytest.raises(RuntimeError):
        in_genkt(code, x=torch.tensor([1.0, -2.0, 3.0]).to("cuda"))


def test_values_and_gradients_are_the_cpus() -> None:
    def slope(x: Tensor) -> tuple[Tensor, Tensor | None]:
        y = (x.requires_grad_() ** 3)[[2, 0]].sum()
        y.backward()
        return y.detach(), x.grad

    expected = slope(torch.tensor([1.0, -2.0, 3.0]))
    with fake_cuda():
        found = slope(torch.tensor([1.0, -2.0, 3.0]).to("cuda"))
        assert all(part is not None and part.is_cuda for part in found)
    assert all(map(torch.equal, tree_map(shadow, found), expected))
