"""What to do where the data lack a part that a run needs."""

from __future__ import annotations

from typing import Literal

from genkt.data.splits import Splits
from genkt.recipes.config import IN_PYTHON
from genkt.recipes.data_config import DataSettings, SplitListData, TorchvisionData

Part = Literal["test", "validation"]

_FOLDERS: dict[Part, str] = {"test": "a test folder", "validation": "a val folder"}


def how_to_get(part: Part, data: DataSettings, splits: Splits) -> str:
    """What to give for a missing part; the rules are those of ``carve_missing``.

    Args:
        data: the settings that ``splits`` were read by, or which say that they came from Python.
        splits: without the part.
    """
    if getattr(data, "root", None) == IN_PYTHON:
        return f"give Splits with a {part} part"
    own = _own(part, data)
    if part == "test" and "validation" in splits.parts and "validation" not in splits.carved:
        return (
            f"give {own}; data.test_fraction counts only where the data have neither a test nor a "
            "validation part, and these have a validation part"
        )
    return f"give {own}, or data.{part}_fraction above 0"


def _own(part: Part, data: DataSettings) -> str:
    """The part as the user's own, by the kind of data."""
    if isinstance(data, SplitListData):
        return f"data.{part}=LIST"
    if isinstance(data, TorchvisionData):
        return f"a data set with a {part} part"
    return _FOLDERS[part]
