"""A CUDA device that is none: torch's fake tensors, with the values that a CPU computes.

Inside ``fake_cuda()`` a tensor on "cuda" is a ``FakeTensor``: torch refuses what mixes devices, as
a GPU does. Beside it stands its shadow, the same tensor on the CPU, on which each operation is done
too. So a value that Python asks for is the right one, the way through the code is the real one, and
results can be compared. Whatever would make Python wait for a GPU is recorded with the place in
genkt that asked for it. Tensors of the CPU stay what they are.

What it does not show: what CUDA's own kernels do (rounding, memory, their speed), autocast, graphs.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

import genkt
from genkt.data.transform import _constants

aten = torch.ops.aten
PACKAGE = str(Path(genkt.__file__).parent) + "/"
_MAY_BE_STATIC = {aten.index.Tensor, aten.repeat_interleave.Tensor}
"""Their results have a shape that depends on values in some calls only."""
_WITHOUT_FAKE = {aten._fused_sgd_.default}
"""They change their arguments in place, and torch knows no fake of them."""


class Wait(NamedTuple):
    """Python waits for the device: for what, and the file and function of genkt that ask."""

    place: str
    what: str


@dataclass(frozen=True)
class _Call:
    """An operation and all that went into it."""

    function: Any
    args: tuple[Any, ...]
    keywords: dict[str, Any]

    @classmethod
    def of(cls, function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> _Call:
        """C++ is told "meta" (see ``Device``), and asks for its own tensors there."""
        call = cls(function, args, keywords)
        shape_alone = function is aten.empty_like.default and not all(map(_is_fake, call.tensors))
        if str(keywords.get("device")) == "meta" and not shape_alone:
            return cls(function, args, {**keywords, "device": torch.device("cuda")})
        return call

    @property
    def tensors(self) -> list[Tensor]:
        return [v for v in tree_flatten((self.args, self.keywords))[0] if isinstance(v, Tensor)]

    @property
    def on_cuda(self) -> bool:
        """Whether a tensor is on the device, or a new one shall be."""
        asked = torch.device(self.keywords.get("device") or "cpu").type == "cuda"
        return asked or any(map(_is_fake, self.tensors))

    def run(self) -> Any:
        """On the CPU, by the shadows."""
        keywords = {**self.keywords, **({"device": "cpu"} if self.keywords.get("device") else {})}
        keywords.pop("pin_memory", None)
        with unset_fake_temporarily():
            return self.function(*tree_map(shadow, self.args), **tree_map(shadow, keywords))

    @property
    def by_mask(self) -> bool:
        """Whether a mask on the device chooses: how many it chooses is known there alone."""
        if self.function is aten.index.Tensor:
            return _has_masks(self.args[1])
        if self.function in (aten.index_put.default, aten.index_put_.default):
            return _has_masks(self.args[1]) and self.args[2].numel() != 1  # one value fills a mask
        return False

    @property
    def size_depends(self) -> bool:
        """Whether the result is a number for Python, or of a size that depends on values."""
        tags = self.function.tags
        if torch.Tag.data_dependent_output in tags:
            return True
        if self.function is aten.repeat_interleave.Tensor:
            return self.keywords.get("output_size") is None
        dynamic = torch.Tag.dynamic_output_shape in tags and self.function not in _MAY_BE_STATIC
        return dynamic or (self.by_mask and self.function is aten.index.Tensor)

    @property
    def waits(self) -> str | None:
        """What Python would wait for; None where it goes on at once."""
        name = str(self.function).removeprefix("aten.").split(".")[0]
        if self.size_depends or self.by_mask:
            return {"_local_scalar_dense": "item"}.get(name, name)
        if self.function is aten._to_copy.default:
            target, source = self.keywords.get("device"), self.args[0]
            blocking = not self.keywords.get("non_blocking")
            return _travel(_kind(source), target and torch.device(target).type, blocking)
        if self.function is aten.copy_.default:
            target, source, *more = self.args
            blocking = not (more and more[0]) and not self.keywords.get("non_blocking")
            return _travel(_kind(source), _kind(target), blocking or not _pinned(target, source))
        if name.startswith("index"):
            indices = self.args[1] if isinstance(self.args[1], (list, tuple)) else ()
            if any(i is not None and _kind(i) == "cpu" and i.dim() for i in indices):
                return "index on the CPU"
        return None


@contextlib.contextmanager
def fake_cuda() -> Iterator[Device]:
    """A context in which "cuda" is there; see above."""
    device = Device()
    _constants.cache_clear()  # kept tensors are of one device, and what they cost is to be seen
    with contextlib.ExitStack() as undo:
        undo.callback(_constants.cache_clear)
        for change in _patches(device):
            undo.enter_context(change)
        undo.enter_context(_Arguments())
        undo.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        undo.enter_context(device)
        yield device


class Device(TorchDispatchMode):
    """What ``fake_cuda`` gives.

    Attributes:
        waits: where Python would have waited for the device, and how often.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[Wait] = Counter()

    def note(self, what: str) -> None:
        """Record that Python waits, if it is genkt that asks."""
        place = _place()
        if place is not None:
            self.waits[Wait(place, what)] += 1

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.prim.device.default:
            # C++ asks. Autograd has no queue for a device that is not there; meta's is the CPU's.
            return torch.device("meta") if isinstance(args[0], FakeTensor) else args[0].device
        call = _Call.of(func, args, kwargs or {})
        if not call.on_cuda:
            pinned = bool(call.keywords.get("pin_memory"))
            return _mark_pinned(call.run()) if pinned else call.run()
        if func._can_decompose():  # inference mode leaves that to us
            with self:
                return func.decompose(*args, **call.keywords)
        _require_generators(call)
        what = call.waits
        if what is not None:
            self.note(what)
        if call.size_depends:
            return tree_map(self._on_device, call.run())
        if func in _WITHOUT_FAKE:
            assert all(map(_is_fake, call.tensors)), f"{func}: a tensor on the CPU"
            return call.run()
        fake = func(*args, **call.keywords)  # refuses what mixes devices
        real = call.run()
        if isinstance(real, Tensor):
            assert (fake.shape, fake.dtype) == (real.shape, real.dtype), (fake, real)
        return _with_shadows(fake, real)

    def _on_device(self, value: Any) -> Any:
        """A result of a size that depends on values, as a tensor of the device."""
        if not isinstance(value, Tensor):
            return value
        fake = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
        return _with_shadows(fake, value)


class _Arguments(TorchFunctionMode):
    """What C++ would get wrong, as it is told "meta": lists in an index, and ``to`` this device."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        keywords = kwargs or {}
        if not (args and _is_fake(args[0])):
            return func(*args, **keywords)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            args = (args[0], _as_tensors(args[1]), *args[2:])
        if func is Tensor.to and _is_so_already(*args, **keywords):
            return args[0]
        return func(*args, **keywords)


def _is_so_already(tensor: Tensor, *args: Any, copy: bool = False, **keywords: Any) -> bool:
    like = args[0] if args and isinstance(args[0], Tensor) else None
    if like is not None:
        return not copy and _kind(like) == "cuda" and like.dtype == tensor.dtype
    device, dtype, *_ = torch._C._nn._parse_to(*args, **keywords)
    return not copy and getattr(device, "type", "cuda") == "cuda" and dtype in (None, tensor.dtype)


def _as_tensors(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    return torch.as_tensor(index) if isinstance(index, (list, np.ndarray)) else index


def shadow(value: Any) -> Any:
    """The same tensor on the CPU; anything else as it is."""
    if isinstance(value, Tensor) and not isinstance(value, FakeTensor):
        assert value.device.type == "cpu", f"a tensor without values: {value}"
    return value.shadow if isinstance(value, FakeTensor) else value  # type: ignore[attr-defined]


def _with_shadows(fake: Any, real: Any) -> Any:
    """``fake``, its tensors with their shadows; what is on the CPU now is ``real`` itself."""
    if not isinstance(fake, FakeTensor):
        if isinstance(fake, (list, tuple)):
            parts = [_with_shadows(*pair) for pair in zip(fake, real, strict=True)]
            return type(fake)(parts) if type(fake) in (list, tuple) else type(fake)(*parts)
        return real
    if fake.fake_device.type == "cpu":
        return real
    fake.shadow = real  # type: ignore[attr-defined]
    return fake


def _is_fake(tensor: Any) -> bool:
    return isinstance(tensor, FakeTensor)


def _kind(tensor: Tensor) -> str:
    return "cuda" if _is_fake(tensor) else "cpu"


def _has_masks(indices: Any) -> bool:
    return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in indices)


def _travel(source: str, target: str | None, blocking: bool) -> str | None:
    if not blocking or target is None or source == target:
        return None
    return "copy to the CPU" if target == "cpu" else "copy to the device"


def _mark_pinned(tensor: Tensor) -> Tensor:
    tensor.pinned = True  # type: ignore[attr-defined]
    return tensor


def _pinned(target: Tensor, source: Tensor) -> bool:
    """Whether a copy need not wait: what leaves the device must go to pinned memory for that."""
    return _kind(source) == "cpu" or getattr(target, "pinned", False)


def _require_generators(call: _Call) -> None:
    for value in tree_flatten((call.args, call.keywords))[0]:
        if isinstance(value, torch.Generator) and value.device.type != "cuda":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")


def _place() -> str | None:
    """The innermost function of genkt that is being called; None where there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE):
            function = code.co_qualname.split(".<locals>")[0]
            return f"{code.co_filename.removeprefix(PACKAGE)}:{function}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _patches(mode: Device) -> Iterator[Any]:
    """What torch cannot do with fake tensors, and what asks for a driver."""

    class Event:
        """Stands for ``torch.cuda.Event``."""

        def record(self) -> None:
            """Nothing is under way."""

        def synchronize(self) -> None:
            """Python waits here."""
            mode.note("event")

    yield patch.object(torch.cuda, "Event", Event)
    yield patch.object(torch.cuda, "is_available", lambda: False)  # asked at each operation
    yield patch.object(torch.cuda, "manual_seed", torch.default_generator.manual_seed)
    yield patch.object(Tensor, "pin_memory", _mark_pinned)
    yield patch.object(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    yield patch.object(torch.cuda, "set_rng_state", lambda state, device: None)
    yield patch.object(nn.Module, "_apply", _apply)
    yield patch.object(FakeTensor, "__deepcopy__", _deepcopy, create=True)
    for name, value in (("is_cuda", True), ("is_meta", False)):
        answer = property(lambda tensor, value=value: value)
        yield patch.object(FakeTensor, name, answer, create=True)


@torch.no_grad()
def _apply(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
    """``nn.Module._apply`` that makes new parameters: torch cannot swap fake ones."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and (changed := change(parameter)) is not parameter:
                part._parameters[name] = nn.Parameter(changed, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = change(buffer)
    return module


@torch.no_grad()
def _deepcopy(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
    copied = tensor.clone()
    if isinstance(tensor, nn.Parameter):
        copied = nn.Parameter(copied, tensor.requires_grad)
    return memo.setdefault(id(tensor), copied)
