"""Loads a model's weights from the content of a file, and says what was used and left out."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable

from torch import nn

from genkt.models.fit import NO_WEIGHT, Fitted, Target, class_rows, head_names, values_fault
from genkt.models.places import Place, places
from genkt.models.safe_pickle import printable
from genkt.models.tensor_files import odd_tensor
from genkt.types import UserError, counted

logger = logging.getLogger("genkt")

_SAID: dict[str, list[str]] = {}
"""By file: what was logged on its last load, then on heads; a run loads it many times."""

_LOGGED: set[str] = set()


def load_weights(
    model: nn.Module, content: object, source: str, *, name: str,
    rebuilt: Callable[[int], nn.Module] | None = None,
) -> nn.Module:  # fmt: skip
    """Find a model's weights in the content of a file, and load them.

    The right dict and prefix have every weight that the model needs, apart from its head. If
    several fit, timm's dicts come first, in its order (``state_dict_ema``, ``model_ema``,
    ``state_dict``, ``model``). Among others, or within one, averaged weights (``ema``, DINO's
    ``teacher``) come first, and a student or a momentum encoder comes last. Names of other
    repositories are mapped by timm's own filter of the model's family, and tables of positions are
    resized as timm does. Missing buffers that are not statistics keep the model's own values. Other
    parts (decoders, mask tokens, projectors, other heads) are left out. The ``genkt`` logger
    reports all this in one line.

    Args:
        content: see ``read_content``.  source: the file, for messages.
        name: of the model, for messages.
        rebuilt: builds the model with a given number of classes, to match the weights; None: it
        keeps its own number. (Some models' ``reset_classifier`` leaves out a head.)

    Returns:
        The model, or the one that was built in its place.

    Raises:
        UserError: no weights, weights of another architecture, or values that are not numbers.
    """
    target = Target(model)
    candidates = places(content, target.wanted, target.parts)
    if not candidates:
        raise UserError(f"{source}: {_no_tensors(content)}")
    place, fitted = _first_fit(target, candidates, source, name)
    if fault := odd_tensor(fitted.tensors) or values_fault(target, fitted):
        raise UserError(f"{source}: {printable(fault)}")
    if rebuilt is not None and (classes := _classes_of(model, fitted)) != model.num_classes:
        model = rebuilt(classes)
    expected = model.state_dict()
    tensors = {k: v for k, v in fitted.tensors.items() if v.shape == expected[k].shape}
    model.load_state_dict(tensors, strict=False)
    others = [other for other in candidates if other is not place and _is_twin(place, other)]
    _say(source, _told(place, others, fitted), _new_head(model, fitted, tensors))
    return model


def weights_notes(files: Iterable[str | None]) -> list[str]:
    """What was logged when these files were last loaded; nothing for a plain load."""
    sources = dict.fromkeys(f'weights "{file}"' for file in files if file)
    return [f"{source}: {text}" for source in sources for text in _SAID.get(source, []) if text]


def _first_fit(
    target: Target, candidates: list[Place], source: str, name: str
) -> tuple[Place, Fitted]:
    """The best place that fits.

    Raises:
        UserError: none fits; the message explains the closest one.
    """
    closest, state = None, candidates[0].state
    for place in candidates:
        found = target.fit(place.state)
        if isinstance(found, Fitted):
            return place, found
        if closest is None or found.badness < closest.badness:
            closest, state = found, place.state
    fault = odd_tensor(state) or f"not of {name}: {printable(str(closest), most=1000)}"
    raise UserError(f"{source}: {fault}")


def _no_tensors(content: object) -> str:
    """A message on what was found instead of named tensors."""
    start = "expected named tensors, alone or under state_dict or model, got"
    if not isinstance(content, dict):
        return f"{start} a {type(content).__name__}"
    if not content:
        return f"{start} none"
    if "param_groups" in content or any("optim" in str(key) for key in content):
        return f"{start} the state of an optimizer alone; give the checkpoint of the model"
    key = next(iter(content))
    return f"{start} a {type(content[key]).__name__} at {ascii(key)[:80].strip(chr(39))}"


def _classes_of(model: nn.Module, fitted: Fitted) -> int:
    """How many classes the weights have; the model's own number if they do not show it."""
    own: int = model.num_classes  # type: ignore[assignment]
    sizes = _rows_of(model, fitted)
    return sizes.pop() if len(sizes) == 1 else own


def _rows_of(model: nn.Module, fitted: Fitted) -> set[int]:
    """The numbers of classes that the heads of the weights have."""
    return {fitted.tensors[name].shape[0] for name in class_rows(model) & fitted.tensors.keys()}


def _is_twin(place: Place, other: Place) -> bool:
    """Whether another place holds the same network."""
    elsewhere = (place.container, place.prefix) != (other.container, other.prefix)
    return elsewhere and len(other.state.keys() & place.state.keys()) >= 0.9 * len(place.state)


def _new_head(model: nn.Module, fitted: Fitted, loaded: Iterable[str]) -> tuple[str, bool]:
    """A message on a head that was not loaded, and whether the weights had none."""
    head = head_names(model)
    new = head.difference(loaded)
    if not new:
        return "", False
    classes = f"its head of {model.num_classes} classes is new"
    lost = sorted(head.difference(fitted.tensors))
    if len(lost) == len(head):
        return f"{classes}, the file has none", True
    if lost:
        return f"part of {classes} because the file does not have it: {_some(lost)}", True
    there = ", ".join(map(str, sorted(_rows_of(model, fitted))))
    return f"{classes}, that of the file has {there}", False


def _told(place: Place, others: list[Place], fitted: Fitted) -> tuple[str, bool]:
    """One line on a load ("" for a plain one), and whether the user should see it."""
    parts = []
    if place.container or place.prefix:
        parts.append(f"taken from {place}")
    if others:
        parts.append(f"also there: {', '.join(map(str, others[:3]))}")
    if fitted.renamed:
        parts.append(f"{counted(fitted.renamed, 'name')} mapped as timm does")
    if fitted.resized:
        parts.append(f"resized {_some(fitted.resized)}")
    if fitted.filled:
        parts.append(
            f"{counted(len(fitted.filled), 'buffer')} filled by the model ({_some(fitted.filled)})"
        )
    if fitted.left_out:
        parts.append(
            f"{counted(len(fitted.left_out), 'tensor')} left out ({_some(fitted.left_out)})"
        )
    if place.outside:
        parts.append(f"{counted(place.outside, 'tensor')} without the prefix left out")
    weights = [name for name in fitted.left_out if not NO_WEIGHT.search(name)]
    matters = bool(others or fitted.resized or weights or place.outside)
    return printable("; ".join(parts), most=1000) if parts else "", matters


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _say(source: str, load: tuple[str, bool], head: tuple[str, bool]) -> None:
    """Log once per file, in the process that reports for a run."""
    if _SAID.get(source, [""])[0] != load[0]:
        _SAID[source] = [load[0]]
    said = _SAID.setdefault(source, [load[0]])
    said += [head[0]] if head[0] not in said else []
    speaks = multiprocessing.parent_process() is None and os.environ.get("RANK", "0") == "0"
    for text, matters in (load, head):
        line = f"{source}: {text}"
        if text and speaks and line not in _LOGGED:
            _LOGGED.add(line)
            logger.log(logging.WARNING if matters else logging.INFO, line)
