"""What a run was made with: packages, hardware, date."""

from __future__ import annotations

import os
import platform
from datetime import date

import torch

_PARTS = ("torch", "torchvision", "timm", "lightning_fabric", "numpy", "pillow", "genkt")


def versions() -> dict[str, str]:
    """Python, packages, hardware and today's date."""
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in _PARTS:
        try:
            found[name] = metadata.version("pytorch-lightning" if "fabric" in name else name)
        except metadata.PackageNotFoundError:
            continue
    found["hardware"] = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{platform.machine()} CPU, {os.cpu_count()} cores"
    )
    found["date"] = date.today().isoformat()
    return found


def hardware(device: torch.device) -> str:
    """The device's name, for cards."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} of {os.cpu_count()} cores"
