"""What every loss shares: shape checks and arithmetic that autocast cannot narrow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from genkt.types import UserError


def widen(tensor: Tensor) -> Tensor:
    """``tensor`` itself, or its float32 copy where it holds 16-bit floats."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


Teachers = Tensor | Sequence[Tensor]
"""What one teacher gave, or one tensor per teacher."""


def listed(teachers: Teachers, name: str) -> list[Tensor]:
    """One teacher's tensor, or several, as a list.

    Raises:
        UserError: an empty one.
    """
    several = [teachers] if isinstance(teachers, Tensor) else list(teachers)
    if not several:
        raise UserError.of(name, "at least one teacher", "none")
    return several


def side_by_side(features: Teachers, name: str = "features") -> Tensor:
    """Features [B, sum of D]: one teacher's as they are, several teachers' column-wise.

    Raises:
        UserError: none, no matrices of floats, or different numbers of rows.
    """
    several = listed(features, name)
    for index, each in enumerate(several if len(several) > 1 else []):
        require_matrix(each, f"{name} of teacher {index}")
        require_same_rows(several[0], each, f"{name} of teacher {index}")
    return several[0] if len(several) == 1 else torch.cat(several, dim=1)


def in_one_type(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in the widest of their float types, float32 at least."""
    widest = torch.float32
    for tensor in tensors:
        widest = torch.promote_types(widest, tensor.dtype)
    return tuple(tensor.to(widest) for tensor in tensors)


def no_autocast(tensor: Tensor) -> torch.autocast:
    """A context in which no operation on the tensor's device is narrowed to 16 bits."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def require_floats(tensor: Tensor, name: str) -> None:
    """Raise unless ``tensor`` is a floating point tensor.

    Raises:
        UserError: another type.
    """
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise UserError.of(name, "a tensor of floats", kind)


def require_matrix(tensor: Tensor, name: str, *, min_rows: int = 1, min_columns: int = 1) -> None:
    """Raise unless ``tensor`` is a floating point matrix of at least that size.

    Raises:
        UserError: wrong type, number of dimensions, rows or columns.
    """
    require_floats(tensor, name)
    if tensor.ndim != 2:
        raise UserError.of(name, "a matrix [rows, columns]", f"shape {_shape(tensor)}")
    if tensor.shape[0] < min_rows:
        raise UserError.of(name, f"at least {min_rows} rows", tensor.shape[0])
    if tensor.shape[1] < min_columns:
        raise UserError.of(name, f"at least {min_columns} columns", tensor.shape[1])


def require_map(tensor: Tensor, name: str) -> None:
    """Raise unless ``tensor`` is a floating point map [B, D, H, W] with no empty dimension.

    Raises:
        UserError: wrong type, number of dimensions or an empty one.
    """
    require_floats(tensor, name)
    if tensor.ndim != 4 or 0 in tensor.shape:
        raise UserError.of(name, "a map [rows, channels, height, width]", f"shape {_shape(tensor)}")


def require_same_rows(student: Tensor, other: Tensor, name: str) -> None:
    """Raise unless both tensors have one row for the same number of samples.

    Raises:
        UserError: the numbers of rows differ.
    """
    if student.shape[0] != other.shape[0]:
        raise UserError.of(
            name, f"{student.shape[0]} rows, one for each of the student's", other.shape[0]
        )


def require_shape(tensor: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Raise unless ``tensor`` has exactly ``shape``.

    Raises:
        UserError: the shapes differ.
    """
    if tuple(tensor.shape) != shape:
        raise UserError.of(name, f"shape {list(shape)}", _shape(tensor))


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
