"""Values as they were written: what a reader of YAML or of words would change is kept beside it.

``out=1e3`` is a folder called 1e3, ``train.lr=1e-3`` is a number. Which of them is meant is known
only where the setting is declared, so the text travels along until the declared type is met.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from genkt.types import UserError

_MARK = "\ue000"
"""How a kept value starts on its way through hydra, which knows no other types than plain ones."""
_OBJECT = "\ue001"
"""The same for the number of an object, which only genkt knows."""

_FLOAT = re.compile(
    r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_NUMBER_STARTS = list("-+0123456789.")


@dataclass(frozen=True)
class Written:
    """A number, truth value or null that is written in a way of its own.

    Args:
        text: as typed.  value: what it stands for where the setting is no text.
    """

    text: str
    value: Any


def keep(text: str, value: Any) -> Any:
    """``value`` where it says all that ``text`` does, else a text that holds both.

    >>> keep("8", 8), keep("true", True), keep("1_000", 1000) == 1000
    (8, True, False)
    """
    special = isinstance(value, str) and (value.startswith((_MARK, _OBJECT)) or "${" in value)
    if not special and text == _plainly(value):
        return value
    return _MARK + json.dumps([text, value]).replace("$", "\\u0024")  # never an interpolation


def _plainly(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def keep_objects(value: Any, objects: list[Any]) -> Any:
    """A value of Python's in plain ones: what is none goes to ``objects``, its place says which.

    >>> others: list[Any] = []
    >>> keep_objects({"a": (1, Path("b"))}, others), others
    ({'a': [1, 'b']}, [])
    """
    if isinstance(value, Mapping):
        return {str(key): keep_objects(item, objects) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [keep_objects(item, objects) for item in value]
    if isinstance(value, (str, Path)):
        return keep(str(value), str(value))
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (Integral, Real)):  # numpy's too
        return int(value) if isinstance(value, Integral) else float(value)
    objects.append(value)
    return f"{_OBJECT}{len(objects) - 1}"


def kept(value: Any, objects: Sequence[Any] = ()) -> Any:
    """Plain values that hydra hands back, with what was kept as ``Written`` again."""
    if isinstance(value, dict):
        return {_key(kept(key)): kept(item, objects) for key, item in value.items()}
    if isinstance(value, list):
        return [kept(item, objects) for item in value]
    if isinstance(value, str) and value.startswith(_OBJECT):
        return objects[int(value[len(_OBJECT) :])]
    if isinstance(value, str) and value.startswith(_MARK):
        text, read = json.loads(value[len(_MARK) :])
        return read if isinstance(read, str) else Written(text, read)
    return value


def _key(key: Any) -> Any:
    return key.text if isinstance(key, Written) else key


def as_values(value: Any) -> Any:
    """The same with every ``Written`` as what it stands for."""
    return _plain(value, lambda written: written.value)


def as_texts(value: Any) -> Any:
    """The same with every ``Written`` as it was typed."""
    return _plain(value, lambda written: written.text)


def _plain(value: Any, choose: Any) -> Any:
    if isinstance(value, Written):
        return choose(value)
    if isinstance(value, dict):
        return {key: _plain(item, choose) for key, item in value.items()}
    return [_plain(item, choose) for item in value] if isinstance(value, list) else value


def literal(text: str) -> str:
    """A text that OmegaConf reads as it is: "${" starts no interpolation.

    >>> print(literal("a${b}"))
    a\\${b}
    """
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", text)


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file, numbers and the like as ``keep`` leaves them.

    Raises:
        UserError: no YAML, or no mapping of settings; with the line.
    """
    import yaml

    text = Path(path).read_text(encoding="utf-8")
    try:
        content = yaml.load(text, Loader=_loader())  # a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: expected YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UserError(f"{path}: expected YAML: {' '.join(str(error).split())}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected settings, key: value, got a {type(content).__name__}")
    return content


def write_yaml(settings: dict[str, Any]) -> str:
    """Settings as YAML that ``read_yaml`` reads as the same values, every text as it is."""
    import yaml

    return str(yaml.dump(settings, Dumper=_dumper(), sort_keys=False, allow_unicode=True))


@functools.cache
def _loader() -> Any:
    """YAML as OmegaConf reads it (1e-3 is a number, a date is a text)."""
    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        """Keeps how a scalar is written; refuses a key that stands twice."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen = set()
            for key, _ in node.value:
                if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                    raise yaml.constructor.ConstructorError(
                        None, None, f'the key "{key.value}" stands twice', key.start_mark
                    )
                seen.add(key.value if isinstance(key.value, str) else id(key))
            return super().construct_mapping(node, deep=deep)

    _float_resolver(Loader)
    for name in ("int", "float", "bool", "null"):
        tag = f"tag:yaml.org,2002:{name}"
        read = yaml.SafeLoader.yaml_constructors[tag]
        Loader.add_constructor(
            tag, lambda loader, node, read=read: keep(node.value, read(loader, node))
        )
    Loader.add_constructor("tag:yaml.org,2002:str", lambda _, node: _text(node.value))
    return Loader


def _text(text: str) -> str:
    """A text of a YAML file, which may refer to other settings."""
    return str(keep(text, text)) if text.startswith((_MARK, _OBJECT)) else text


@functools.cache
def _dumper() -> Any:
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        """Quotes whatever text the reader would take for something else."""

    _float_resolver(Dumper)
    Dumper.add_representer(
        str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", literal(text))
    )
    return Dumper


def _float_resolver(kind: Any) -> None:
    """``1e3`` is a number to OmegaConf, and a date none of its own."""
    kind.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, _NUMBER_STARTS)
    kind.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in kind.yaml_implicit_resolvers.items()
    }
