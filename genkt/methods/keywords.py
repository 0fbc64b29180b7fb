"""Keywords of objectives: which there are, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from inspect import Parameter, Signature
from typing import Any

from genkt.io import did_you_mean
from genkt.methods.shapes import SIZES
from genkt.types import UserError

_ONLY_RUNS = ("name", "beta_grid")
"""Options without a meaning in a loop of one's own."""


def option_names(options_type: Any) -> list[str]:
    """The options of a method that are keywords of its objective."""
    return [field.name for field in fields(options_type) if field.name not in _ONLY_RUNS]


def options_of(name: str, options_type: Any, keywords: Mapping[str, Any]) -> Any:
    """The options that keywords give, the others at their defaults.

    Args:
        name: of the objective, for messages.
        options_type: the dataclass, a ``MethodOptions``; None: the objective has none of its own.
        keywords: options and sizes.

    Raises:
        UserError: a keyword is neither an option nor a size, or there is no such dataclass.
    """
    if options_type is None:
        raise UserError.of(name, "options and shapes", f"keywords ({', '.join(keywords)})")
    own = option_names(options_type)
    known = [*own, *SIZES, "seed"]
    for key in keywords.keys() - set(known):
        raise UserError(
            f"{name}: {key}: expected one of {', '.join(known)}.{did_you_mean(key, known)}"
        )
    options = options_type(**{key: keywords[key] for key in own if key in keywords})
    return options if "beta" in keywords else options.alone()


def signature_of(options_type: Any, sizes: Sequence[str]) -> Signature:
    """What ``help`` shows of an objective: its sizes, its options with their defaults, the seed."""
    usual = options_of("", options_type, {})
    defaults = {key: getattr(usual, key) for key in option_names(options_type)} | {"seed": 0}
    required = [Parameter(size, Parameter.KEYWORD_ONLY) for size in sizes]
    optional = [
        Parameter(key, Parameter.KEYWORD_ONLY, default=value) for key, value in defaults.items()
    ]
    return Signature([*required, *optional])
