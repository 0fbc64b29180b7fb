"""Finds the weights in a checkpoint: in which dicts, and under which prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

FIRST = ("state_dict_ema", "model_ema", "state_dict", "model")
"""The dicts that timm takes, in its order."""

AVERAGED = ("ema_state_dict", "ema_model", "ema", "teacher", "target_encoder")
"""Names of the weights that authors evaluate, if the trained ones are there as well."""

TRAINED = (
    "student", "encoder_k", "momentum_encoder", "momentum_backbone", "momentum_network",
    "target_network",
)  # fmt: skip
"""Names of weights that authors do not evaluate: DINO's student, the slow copy of MoCo, BYOL."""

_DEEPEST = 4


@dataclass(frozen=True)
class Place:
    """Tensors that might be a model's.

    Args:
        container: the keys of the dicts around them.
        prefix: what was taken off their names.
        state: name without the prefix -> tensor.
        outside: tensors of the same dict that do not have the prefix.
    """

    container: tuple[str, ...]
    prefix: str
    state: Mapping[str, Tensor]
    outside: int = 0

    def __str__(self) -> str:
        where = ".".join(self.container) or "the outermost dict"
        return where + (f' under "{self.prefix}"' if self.prefix else "")

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key: timm's dicts first, in its order; among equals, averaged weights first."""
        outer = self.container[0] if self.container else ""
        words = {*self.container, *self.prefix.split(".")}
        averaged = 0 if words.intersection(AVERAGED) else 2 if words.intersection(TRAINED) else 1
        return FIRST.index(outer) if outer in FIRST else len(FIRST), averaged


def containers(content: object) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """(keys that lead there, named tensors) of every dict that holds some, outermost first."""
    pending: list[tuple[tuple[str, ...], object]] = [((), content)]
    while pending:
        keys, value = pending.pop(0)
        if not isinstance(value, dict) or len(keys) > _DEEPEST:
            continue
        named = {k: v for k, v in value.items() if isinstance(k, str) and isinstance(v, Tensor)}
        if named:
            yield keys, named
        pending += [((*keys, k), v) for k, v in value.items() if isinstance(k, str)]


def places(content: object, wanted: Collection[str], parts: Collection[str]) -> list[Place]:
    """Where the weights may be, the best place first.

    A prefix counts if all ``wanted`` names are under it. Names may be those of another repository,
    so a prefix of a quarter of a dict's tensors counts too.

    Args:
        wanted: names that the model needs.
        parts: the first words of the model's own names, which are not prefixes.
    """
    found = []
    for keys, named in containers(content):
        state, stripped = _unwrapped(named)
        for prefix in dict.fromkeys([*_complete(state, wanted), "", *_shared(state, parts)]):
            inner = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            found.append(Place(keys, stripped + prefix, inner, len(state) - len(inner)))
    return sorted(found, key=lambda place: place.rank)


def _unwrapped(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Names without what DistributedDataParallel and torch.compile put before them."""
    from timm.models import clean_state_dict  # type: ignore[attr-defined]

    clean = clean_state_dict(state)
    if len(clean) < len(state):
        return state, ""
    changed = (raw.removesuffix(name) for raw, name in zip(state, clean, strict=True))
    return clean, next(filter(None, changed), "")


def _complete(state: Mapping[str, Tensor], wanted: Collection[str]) -> list[str]:
    """Prefixes that every wanted name has, in the file's order."""
    names, counts = set(wanted), Counter[str]()
    for name in state:
        words = name.split(".")
        for start in range(len(words)):
            if ".".join(words[start:]) in names:
                counts["".join(f"{word}." for word in words[:start])] += 1
    return [prefix for prefix, count in counts.items() if count == len(names)]


def _shared(state: Mapping[str, Tensor], parts: Collection[str], prefix: str = "") -> list[str]:
    """Prefixes that a quarter of the tensors have and that are not parts of the model."""
    counts = Counter(
        name.removeprefix(prefix).partition(".")[0]
        for name in state
        if name.startswith(prefix) and "." in name.removeprefix(prefix)
    )
    found = []
    for word, count in counts.items():
        if 4 * count >= len(state) and word not in parts and not word.isdecimal():
            inner = f"{prefix}{word}."
            found += [inner, *(_shared(state, parts, inner) if inner.count(".") < 3 else [])]
    return found
