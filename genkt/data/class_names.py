"""Class names: a value of a list, a tar or a table becomes the same name everywhere.

A whole number is the same class in every notation: 3, 3.0, "3" and "3.0" are all "3". Any other
text is used unchanged: "03" is not "3", because folders with these names are two classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from genkt.data.names import canonical

CLASS_COLUMNS = (
    "class", "label", "classname", "labelname", "categoryname", "category", "target", "cls",
    "species", "breed", "diagnosis", "dx", "findinglabels", "classlabel", "imagelabel", "classes",
    "labels", "classid", "labelid", "categoryid",
)  # fmt: skip
"""Names of the column or key of the class (see ``plain_key``), the most certain first."""

_WHOLE = re.compile(r"[+-]?\d{1,300}")
_POINT = re.compile(r"([+-]?\d{1,300})\.0+")
_NUMBER = r"[+-]?\d+(?:\.\d*)?"
_QUOTED = r"""b?['"]([^'"]+)['"]"""
_NUMPY = r"(?:np|numpy)\.\w+"
_PRINTED = re.compile(  # 3 and 'cat' as numpy, torch and Python print them
    rf"(?:{_NUMPY}|array|tensor)\(\[?\s*({_NUMBER})\s*\]?(?:,.*)?\)|\[\s*({_NUMBER})\s*\]"
    rf"|{_NUMPY}\({_QUOTED}\)|\[{_QUOTED}\]|(?=b){_QUOTED}"
)


def plain_key(key: str) -> str:
    """A column's name without case, spaces and signs: "Finding Labels" is "findinglabels"."""
    return re.sub(r"[\W_]+", "", key).casefold()


def class_name(value: Any) -> str:
    """The class that a value names; "" for values that mean no class (None, "", -1).

    Raises:
        ValueError: the value does not name exactly one class; the message is a short reason.
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == -1:
        return ""
    if isinstance(value, bool):
        raise ValueError("true or false, expected a name or a whole number")
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("a number with a fraction, expected a name or a whole number")
        value = int(value)
    if isinstance(value, (list, tuple)) and value:
        raise ValueError("several classes, expected one per image")
    if not isinstance(value, (str, int)):
        raise ValueError(f"a {type(value).__name__}, expected a name or a whole number")
    name = class_of_text(str(value))
    if len(name.splitlines()) > 1:
        raise ValueError("several lines, expected one class per image")
    return "" if name == "-1" else name


def class_of_text(text: str) -> str:
    """The class name that a text means, e.g. a cell of a list.

    >>> [class_of_text(text) for text in (" cat ", "3", "3.0", "03", "np.int64(3)", "b'cat'")]
    ['cat', '3', '3', '03', '3', 'cat']

    Raises:
        UnicodeError: the text contains half a character (a lone surrogate).
    """
    name = text.replace("\0", "").strip().strip("\ufeff").strip()
    if printed := _PRINTED.fullmatch(name):
        name = next(filter(None, printed.groups())).strip()
    if whole := _POINT.fullmatch(name):
        name = whole[1]
    name.encode()
    return canonical(name)


def class_in(values: Mapping[str, Any]) -> str:
    """The class that a mapping names under one of ``CLASS_COLUMNS``, "" for none.

    Raises:
        ValueError: there is no such key, or no such key names exactly one class; a UnicodeError if
        the name is damaged.
    """
    keys: dict[str, str] = {}
    for key in values:
        keys.setdefault(plain_key(key), key)
    known = [keys[plain] for plain in CLASS_COLUMNS if plain in keys]
    reason = "" if known else "no key that names a class, such as class or label"
    for key in known:
        try:
            if name := class_name(values[key]):
                return name
        except UnicodeError:
            raise
        except ValueError as error:
            reason = reason or f"'{key}' is {error}"
    if reason:
        raise ValueError(reason)
    return ""


def sorted_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Each class once, sorted as numbers if all are whole numbers, else as texts."""
    classes = sorted(set(names))
    if all(_WHOLE.fullmatch(name) for name in classes):
        classes.sort(key=int)
    return tuple(classes)


def several_classes(names: Iterable[str]) -> dict[str, str]:
    """Maps each name that is a list of classes, such as "cat|dog", to the reason.

    A bar separates classes if one part is a known class. A comma or semicolon does so only if all
    parts are: "crane, bird" is the name of one class.
    """
    known = set(names)
    found = {}
    for name in known:
        for mark, enough in (("|", any), (";", all), (",", all)):
            parts = [part for each in name.split(mark) if (part := each.strip())]
            if len(parts) > 1 and enough(part in known for part in parts):
                found[name] = f"'{name}' names {len(parts)} classes, expected one per image"
    return found


def with_bars(names: Iterable[str]) -> list[str]:
    """Names with a bar: each may mean several classes, and nothing else shows it."""
    divided = (name for name in set(names) if "|" in name)
    return sorted(name for name in divided if all(part.strip() for part in name.split("|")))
