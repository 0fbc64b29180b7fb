"""What to do where the data lack a part that a run needs."""

from __future__ import annotations

from typing import Literal

from genkt.config.data_settings import CarvedData, DataSettings, SplitListData, TorchvisionData
from genkt.data.splits import Splits
from genkt.settings.objects import GivenObject

Part = Literal["test", "validation"]

_FOLDERS: dict[Part, str] = {"test": "a test folder", "validation": "a val folder"}


def how_to_get(part: Part, data: DataSettings, splits: Splits) -> str:
    """What to give for a missing part; the rules are those of ``carve_missing``.

    Args:
        data: the settings that ``splits`` were read by, or which say that they came from Python.
        splits: without the part.
    """
    if isinstance(data, CarvedData) and isinstance(data.root, GivenObject):
        return f"give Splits with a {part} part"
    own = _own(part, data)
    if part == "validation" or "validation" not in splits.parts:
        return f"give {own}, or data.{part}_fraction above 0"
    rule = "data.test_fraction counts only where the data have no validation part of their own"
    # Not carved with these settings: the validation part is the data's own.
    if isinstance(data, CarvedData) and (data.test_fraction or not data.validation_fraction):
        return f"give {own}; {rule}, and these have one"
    return f"give {own}, or data.test_fraction above 0 ({rule})"


def _own(part: Part, data: DataSettings) -> str:
    """The part as the user's own, by the kind of data."""
    if isinstance(data, SplitListData):
        return f"data.{part}=LIST"
    if isinstance(data, TorchvisionData):
        return f"a data set with a {part} part"
    return _FOLDERS[part]
