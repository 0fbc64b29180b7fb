"""From names and files to models: weights of every wrapping, and one line for every fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from safetensors.torch import save_file
from torch import Tensor
from training_cases import assert_same

from genkt.models.load import ModelSpec, load_model, name_fault

ARGS: dict[str, Any] = {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]}
SHAPE = {"input_size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}


def spec(weights: Path | None = None, **changes: Any) -> ModelSpec:
    values: dict[str, Any] = {
        "name": "resnet18", "pretrained": False, "weights": str(weights) if weights else None,
        "args": ARGS, "transform": SHAPE,
    }  # fmt: skip
    return ModelSpec(**values | changes)


def trained(num_classes: int = 3) -> dict[str, Tensor]:
    return load_model(spec(), num_classes=num_classes, seed=9).model.state_dict()


def test_the_transform_is_the_models_own_or_replaced_in_part() -> None:
    assert load_model(spec(transform={})).transform.input_size == (224, 224)
    model = load_model(spec(), num_classes=3)
    assert model.transform.input_size == (32, 32) and model.transform.mean == (0.5, 0.5, 0.5)
    own = load_model(spec(transform={})).transform
    assert model.transform.interpolation == own.interpolation


def test_equal_seeds_give_equal_weights_whatever_the_random_state() -> None:
    first = load_model(spec(), num_classes=3, seed=1)
    torch.rand(7)
    before = torch.get_rng_state()
    assert_same(first.state_dict(), load_model(spec(), num_classes=3, seed=1).state_dict())
    assert torch.equal(torch.get_rng_state(), before)
    other = load_model(spec(), num_classes=3, seed=2)
    assert not torch.equal(first.model.fc.weight, other.model.fc.weight)  # type: ignore[union-attr, arg-type]


WRAPPINGS = {
    "plain.pth": lambda state: state,
    "wrapped.pth": lambda state: {"state_dict": state, "epoch": 3, "arch": "resnet18"},
    "model.pt": lambda state: {"model": state},
    "module.pth": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    "compiled.pth": lambda state: {f"_orig_mod.{k}": v for k, v in state.items()},
    "ema.pth": lambda state: {
        "state_dict": {k: torch.zeros_like(v) for k, v in state.items()},
        "state_dict_ema": {f"module.{k}": v for k, v in state.items()},
    },
    "model_ema.pth": lambda state: {"model_ema": state, "model": {}},
    "x.safetensors": None,
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_weights_in_every_wrapping(tmp_path: Path, name: str) -> None:
    wrap, state = WRAPPINGS[name], trained()
    if wrap is None:
        save_file(state, tmp_path / name)
    else:
        torch.save(wrap(state), tmp_path / name)
    assert_same(state, load_model(spec(tmp_path / name), num_classes=3).model.state_dict())


def test_the_head_is_replaced_kept_or_fitted(tmp_path: Path) -> None:
    state, path = trained(7), tmp_path / "seven.safetensors"
    save_file(state, path)
    replaced = load_model(spec(path), num_classes=3, seed=1).model.state_dict()
    assert replaced["fc.weight"].shape == (3, 8)
    again = load_model(spec(path), num_classes=3, seed=1).model.state_dict()
    assert_same(replaced, again)
    other = load_model(spec(path), num_classes=3, seed=2).model.state_dict()
    changed = {name for name in other if not torch.equal(other[name], again[name])}
    assert changed == {"fc.weight", "fc.bias"}
    assert_same(state, load_model(spec(path)).model.state_dict())
    del state["fc.weight"], state["fc.bias"]
    save_file(state, path)
    assert load_model(spec(path), num_classes=3).num_classes == 3


def test_an_exported_folder_is_loaded_with_and_without_its_head(tmp_path: Path) -> None:
    model = load_model(spec(), num_classes=3)
    model.export(tmp_path)
    kept = load_model(ModelSpec(f"local-dir:{tmp_path}"))
    assert_same(model.model.state_dict(), kept.model.state_dict())
    assert kept.transform == model.transform
    replaced = load_model(ModelSpec(f"local-dir:{tmp_path}"), num_classes=5)
    assert replaced.num_classes == 5
    assert torch.equal(replaced.state_dict()["model.conv1.weight"], kept.model.conv1.weight)  # type: ignore[union-attr, arg-type]


def not_loaded(given: ModelSpec, *named: object, **kwargs: Any) -> None:
    """In one line that names these."""
    with refused(*named) as caught:
        load_model(given, **kwargs)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    not_loaded(spec(tmp_path / "none.pth"), "none.pth")
    save_file(trained(), tmp_path / "x.safetensors")
    wrong = spec(tmp_path / "x.safetensors", args={**ARGS, "layers": [2, 1, 1, 1]})
    not_loaded(wrong, "x.safetensors", "0 unknown")
    wider = spec(tmp_path / "x.safetensors", args={**ARGS, "channels": [4, 4, 8, 16]})
    not_loaded(wider, "x.safetensors", "0 unknown")
    torch.save([1, 2, 3], tmp_path / "list.pth")
    not_loaded(spec(tmp_path / "list.pth"), "list.pth")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    not_loaded(spec(tmp_path / "none.pth"), "none.pth", "epoch")
    torch.save({}, tmp_path / "empty.pth")
    not_loaded(spec(tmp_path / "empty.pth"), "empty.pth")


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth"])
@pytest.mark.parametrize(("keep", "named"), [(0, "0 bytes"), (50, "50 bytes"), (-100, "bytes")])
def test_damaged_files_are_refused(tmp_path: Path, name: str, keep: int, named: str) -> None:
    path = tmp_path / name
    if path.suffix == ".pth":
        torch.save(trained(), path)
    else:
        save_file(trained(), path)
    path.write_bytes(path.read_bytes()[:keep])
    not_loaded(spec(path), name, named)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_pickle_is_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"state_dict": trained(), "extra": Malicious(mark)}, tmp_path / "x.pth")
    not_loaded(spec(tmp_path / "x.pth"), "x.pth", "posix.mkdir")
    model = load_model(spec(), num_classes=3)
    folder = tmp_path / "folder"
    model.export(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Malicious(mark)}, folder / "pytorch_model.bin")
    not_loaded(ModelSpec(f"local-dir:{folder}"), folder)
    assert not mark.exists()


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    load_model(spec(), num_classes=3).export(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    weights = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(weights[:100])
    not_loaded(ModelSpec(f"local-dir:{tmp_path}"), tmp_path)
    (tmp_path / "model.safetensors").write_bytes(weights)
    (tmp_path / "config.json").write_text(json.dumps(config | {"architecture": "resnt18"}))
    not_loaded(ModelSpec(f"local-dir:{tmp_path}"), tmp_path)
    del config["architecture"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    not_loaded(ModelSpec(f"local-dir:{tmp_path}"), tmp_path)
    (tmp_path / "config.json").write_text("{")
    not_loaded(ModelSpec(f"local-dir:{tmp_path}"), tmp_path)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("resnet81", ("resnet81", "resnet18")),
        ("resnet18.no_such_tag", ("no_such_tag", "a1_in1k")),
        ("genkt:none", ("genkt:none",)),
        ("local-dir:/no/such/folder", ("config.json",)),
        ("some/path", ("local-dir:some/path", "hf-hub:some/path")),
    ],
)
def test_wrong_names_get_one_line(name: str, named: tuple[str, ...]) -> None:
    not_loaded(ModelSpec(name), *named)


@pytest.mark.parametrize("name", ["resnet18", "resnet18.a1_in1k", "hf-hub:owner/name"])
def test_right_names_have_no_fault(name: str) -> None:
    assert name_fault(name) is None


def test_arguments_that_do_not_fit_get_one_line() -> None:
    not_loaded(spec(args={"no_such_argument": 1}), "no_such_argument")
    not_loaded(spec(args={"in_chans": 1}), "resnet18")


def test_names_without_weights_say_so() -> None:
    not_loaded(ModelSpec("resnet18d.none"), "resnet18d", "none")
    from timm.models import list_models  # type: ignore[attr-defined]

    bare = "vit_base_patch32_plus_256"
    assert not list_models(f"{bare}*", pretrained=True)
    not_loaded(ModelSpec(bare, args={"depth": 1}), "pretrained=false")


@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "hf-hub:no-such-owner/no-such-model"])
def test_without_network_the_way_out_is_named(name: str, tmp_path: Path) -> None:
    code = (
        "from genkt.models.load import ModelSpec, load_model\n"
        "from genkt.types import UserError\n"
        f"try: load_model(ModelSpec({name!r}))\n"
        "except UserError as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    environment["TORCH_HOME"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600
    )
    line = done.stdout.strip()
    assert name in line and "could not be fetched" in line and "Offline?" in line, done
    assert ".weights=PATH" in line and "\n" not in line


def test_a_model_built_for_another_size_brings_that_size() -> None:
    spec = ModelSpec("vit_tiny_patch16_224", pretrained=False, args={"img_size": 64})
    model = load_model(spec, num_classes=3)
    assert model.transform.input_size == (64, 64)
    assert model(torch.zeros(1, 3, 64, 64)).logits.shape == (1, 3)
