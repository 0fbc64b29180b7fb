"""What settings name and this machine does not have: files, folders, models, a GPU."""

from __future__ import annotations

import re
from typing import Any

from genkt.config.set_settings import OWN_PARTS
from genkt.io import did_you_mean, home_path, is_remote, nearby, shown
from genkt.settings.faults import Fault
from genkt.settings.words import MODEL_GROUPS, Words
from genkt.settings.written import as_texts, as_values
from genkt.types import UserError

_NOT_TIMM = ("pixels", "open_clip:")
"""How the names of encoders start that are no timm models."""
_FILES = ("data.label_list", "data.train", "data.validation", "data.test")
_WEIGHTS = ("student.weights", "teacher.weights", "weights")
"""Files, or folders that hold one as Hugging Face lays it out."""
_PLACES = ("transfer_set.root", "transfer_set.parts")
_FOLDERS = ("data.root", "data.unlabelled", *_PLACES, "recipe.upstream")
_NO_FOLDERS = ("auto", "glyphs")
_OTHER_PLACE = re.compile(r"^\w{2,}:|[*?\[{]|\.tar$")
"""Places of images that are no folder: hf:NAME, torchvision:NAME:ROOT, patterns, tars."""


def world_faults(plain: dict[str, Any], words: Words) -> list[Fault]:
    """What is not there, before anything is built.

    Args:
        plain: the settings, before they are typed.
    """
    texts = as_texts(plain)
    faults = _model_faults(texts, words)
    if as_values(plain).get("smoke") is not True:
        faults += [*_path_faults(texts), *_package_faults(texts)]
    if texts.get("device") == "cuda" and not _has_cuda():
        text = "cuda asked for, but torch sees no CUDA device here; give device=cpu"
        faults.append(Fault("device", text))
    return faults


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _model_faults(plain: dict[str, Any], words: Words) -> list[Fault]:
    """What is wrong with the names of models."""
    faults = []
    for group in MODEL_GROUPS:
        settings = plain.get(group)
        if not isinstance(settings, dict):
            continue
        given = settings.get("model")
        for name in given if isinstance(given, list) else [given]:
            from genkt.models.load import name_fault, package_fault

            if not isinstance(name, str) or (group == "encoder" and name.startswith(_NOT_TIMM)):
                continue
            if fault := name_fault(name):
                hint = did_you_mean(name, words.choices(group), most=1)
                hint = hint.replace("mean ", f"mean {group}=")
                faults.append(Fault(group, f"{fault}{hint}"))
            elif _takes_own_weights(settings) and (fault := package_fault(name)):
                faults.append(Fault(group, fault))
    return faults


def _takes_own_weights(settings: dict[str, Any]) -> bool:
    """Whether a model has the weights that belong to its name."""
    return settings.get("weights") is None and settings.get("pretrained") is not False


def _path_faults(plain: dict[str, Any]) -> list[Fault]:
    """Files and folders that the settings name and that are not there."""
    faults = []
    for key in (*_WEIGHTS, *_FILES, *_FOLDERS):
        given = _select(plain, key)
        for path in given if isinstance(given, list) else [given]:
            if not isinstance(path, str) or path in _NO_FOLDERS:
                continue
            if key == "data.root" and "dataset" in plain["data"]:
                continue  # torchvision may make it
            if key in _FOLDERS and is_remote(path):
                continue  # listed when it is opened
            if key in _PLACES and (path in OWN_PARTS or _OTHER_PLACE.search(path)):
                continue  # no folder: opened, and its faults told, with the data
            found = home_path(path)
            if key == "data.unlabelled" and "train" in plain["data"] and found.is_file():
                continue  # a list of files
            if not found.exists():
                own = OWN_PARTS if key == "transfer_set.parts" else ()
                meant = did_you_mean(path, own, most=1)
                hint = f".{meant}" if meant else nearby(found)
                faults.append(Fault(key, f"no such {_kind(key)}: {shown(path)}{hint}"))
            elif key not in _WEIGHTS and found.is_dir() != (key in _FOLDERS):
                faults.append(Fault(key, f"expected a {_kind(key)}: {shown(path)}"))
    return faults


def _package_faults(plain: dict[str, Any]) -> list[Fault]:
    """What is wrong with the package that the pictures are in, where they are in one."""
    from genkt.data.packages.data_sets import DATA_PACKAGES

    name, root = _select(plain, "data.name"), _select(plain, "data.root")
    if not isinstance(name, str) or name not in DATA_PACKAGES:
        return []  # another value is a fault already, as is a folder that is not there
    if root is not None and not (isinstance(root, str) and home_path(root).is_dir()):
        return []
    try:
        DATA_PACKAGES[name].find(root)
    except UserError as error:
        return [Fault("data.root", str(error).removeprefix("data.root: "))]
    return []


def _kind(key: str) -> str:
    return "folder" if key in _FOLDERS else "file"


def _select(plain: Any, key: str) -> Any:
    for part in key.split("."):
        plain = plain.get(part) if isinstance(plain, dict) else None
    return plain
