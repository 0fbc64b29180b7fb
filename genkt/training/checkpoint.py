"""The resumable state of a training stage: one file, replaced atomically."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genkt.files import SEAL, read_tensors
from genkt.io import atomic_path, fingerprint_tensors, write_bytes
from genkt.types import DamagedError, UserError

logger = logging.getLogger("genkt")

BEST = "best.safetensors"
"""The weights of a stage that were the best on the validation images."""

SNAPSHOT = "snapshot.safetensors"
"""The weights of a stage in the middle of it, at the step that its settings name."""

STATE = "state.pt"
"""The state of a stage in its folder, while it is trained."""


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values atomically; after SIGKILL the old file is intact."""
    with atomic_path(path, _num_bytes(state)) as temporary:
        torch.save(state, temporary)


def _num_bytes(value: Any) -> int:
    """What the tensors in a state take."""
    if isinstance(value, Tensor):
        return value.nbytes
    inside = value.values() if isinstance(value, dict) else value
    return sum(map(_num_bytes, inside)) if isinstance(value, (dict, list, tuple)) else 0


def load_state(
    path: Path, identity: str, earlier: Callable[[], str] | None = None
) -> dict[str, Any] | None:
    """Read a state written for the same stage, or None where there is none.

    Args:
        earlier: the identity that an older genkt gave it.

    Raises:
        UserError: the file is damaged, or belongs to another configuration.
    """
    if not path.exists():
        return None
    try:
        # Torch does not compare what it reads with the checksums that it writes.
        with zipfile.ZipFile(path) as parts:
            if damaged := parts.testzip():
                raise zipfile.BadZipFile(f"{damaged} was altered")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        raise UserError(
            f"{path}: not a readable training state ({type(error).__name__}); delete it to start "
            "this stage again"
        ) from error
    found = state.get("identity") if isinstance(state, dict) else None
    if found != identity and (found is None or earlier is None or found != earlier()):
        raise UserError(
            f"{path}: belongs to a run with other settings, data or versions; give another out= "
            "or overwrite=true"
        )
    return state


def load_stage(path: Path, identity: str, earlier: Callable[[], str]) -> dict[str, Any] | None:
    """As ``load_state``, of a stage whose best weights so far lie beside it.

    Without these the state is not enough: the stage is trained again, with a warning.
    """
    state = load_state(path, identity, earlier)
    if state is None or state["progress"]["best"] < 0:
        return state
    try:
        read_tensors(path.with_name(BEST))
    except DamagedError as error:
        logger.warning("%s; the stage is trained again", error)
        return None
    return state


def remove_leftovers(directory: Path) -> None:
    """Delete the half-written files of a killed process; call it before the first write."""
    for pattern in (".*.pt", ".*.safetensors"):
        for path in directory.glob(pattern):
            path.unlink(missing_ok=True)


def save_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write a state dict as safetensors, atomically, with a digest of it in its header."""
    from safetensors.torch import save

    # Cloned: safetensors refuses tensors that share memory.
    own = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    write_bytes(path, save(own, {SEAL: fingerprint_tensors(own)}))
