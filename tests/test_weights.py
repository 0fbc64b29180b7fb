"""Weights as their authors publish them: found, mapped, resized, and said; others are refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from timm.models import adapt_input_conv  # type: ignore[attr-defined]
from timm.models.swin_transformer import checkpoint_filter_fn as swin_filter
from tiny import run
from torch import Tensor, nn
from training_cases import assert_same

from genkt.models.load import ModelSpec, load_model
from genkt.models.weights import load_weights, weights_notes
from genkt.types import UserError

State = dict[str, Tensor]

FAMILIES: dict[str, dict[str, Any]] = {
    "resnet18": {"layers": [1, 1, 1, 1], "channels": [4, 4, 8, 8]},
    "vit_tiny_patch16_224": {
        "img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2,
    },
    "deit3_small_patch16_224": {
        "img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2,
    },
    "vit_small_patch14_reg4_dinov2": {
        "img_size": 28, "embed_dim": 16, "depth": 2, "num_heads": 2,
    },
    "swin_tiny_patch4_window7_224": {
        "img_size": 32, "patch_size": 2, "window_size": 4, "embed_dim": 8, "depths": (1, 1),
        "num_heads": (1, 2),
    },
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (4, 8, 8, 16)},
}  # fmt: skip
SHAPE = {"mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}


def network(name: str, num_classes: int = 5, **changes: Any) -> nn.Module:
    """A small network of the family with weights of its own, in evaluation mode."""
    torch.manual_seed(3)
    model: nn.Module = timm.create_model(
        name, num_classes=num_classes, **FAMILIES[name] | changes
    ).eval()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value += 0.1 * torch.randn_like(value).abs()
    return model


def saved(model: nn.Module) -> State:
    return {name: value.clone() for name, value in model.state_dict().items()}


def without_head(state: State) -> State:
    return {k: v for k, v in state.items() if not k.startswith(("head.", "fc."))}


def under(prefix: str, state: State) -> State:
    return {f"{prefix}{name}": value for name, value in state.items()}


def zeros(state: State) -> State:
    return {name: torch.zeros_like(value) for name, value in state.items()}


def written(folder: Path, content: object) -> Path:
    torch.save(content, folder / "x.pth")
    return folder / "x.pth"


def loaded(name: str, path: Path, num_classes: int | None = 3, **changes: Any) -> nn.Module:
    size = FAMILIES[name].get("img_size", 32)
    transform = SHAPE if "img_size" in changes else {"input_size": [size, size], **SHAPE}
    args = FAMILIES[name] | changes
    spec = ModelSpec(name, weights=str(path), args=args, transform=transform)
    return load_model(spec, num_classes=num_classes).model.eval()


@torch.no_grad()
def features(model: nn.Module, size: int) -> Tensor:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    seen = model.forward_features(images)  # type: ignore[operator]
    result: Tensor = model.forward_head(seen, pre_logits=True)  # type: ignore[operator]
    return result


def mae(state: State) -> object:
    decoder = {"mask_token": (1, 1, 8), "decoder_embed.weight": (8, 16), "decoder_pos_embed": (5,)}
    more = decoder | {"decoder_blocks.0.norm1.weight": (8,), "decoder_pred.bias": (3,)}
    return {"model": without_head(state) | {k: torch.zeros(v) for k, v in more.items()}}


def dino(state: State) -> object:
    backbone = without_head(state)
    return {
        "student": under("module.backbone.", zeros(backbone)),
        "teacher": under("backbone.", backbone) | {"head.mlp.0.weight": torch.zeros(3, 3)},
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1.0}]},
        "epoch": 4,
    }


def moco(state: State) -> object:
    slow, queue = zeros(state), {"module.queue": torch.zeros(3, 4)}
    return {
        "state_dict": under("module.encoder_k.", slow) | under("module.encoder_q.", state) | queue
    }


def simclr(state: State) -> object:
    projector = {"backbone.fc.0.weight": torch.zeros(8, 8), "projector.0.bias": torch.zeros(8)}
    return {"state_dict": under("backbone.", without_head(state)) | projector}


def lightning(state: State) -> object:
    return {
        "state_dict": under("model.net.", state) | {"criterion.weight": torch.zeros(2)},
        "hyper_parameters": {"lr": 0.1},
    }


def counters_lost(state: State) -> object:
    return {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}


def counted(state: State) -> object:
    return state | {"total_ops": torch.zeros(1), "layer1.total_params": torch.zeros(1)}


def counters_odd(state: State) -> object:
    return state | {"bn1.num_batches_tracked": torch.zeros(1, dtype=torch.int64)}


def dinov2(state: State) -> object:
    """The repository's names: registers apart, a class place in the table, a mask token."""
    own = dict(state)
    own["register_tokens"] = own.pop("reg_token")
    own["pos_embed"] = torch.cat([torch.zeros(1, 1, 16), own["pos_embed"]], dim=1)
    return under("backbone.", own | {"mask_token": torch.zeros(1, 16)})


def deit3(state: State) -> object:
    return {"model": {re.sub(r"ls(\d)\.gamma", r"gamma_\1", k): v for k, v in state.items()}}


def swin(state: State) -> object:
    own = {
        k.replace("layers.1.downsample", "layers.0.downsample").replace("head.fc.", "head."): v
        for k, v in state.items()
    }
    index = torch.zeros(16, 16, dtype=torch.int64)
    return {"model": own | {"layers.0.blocks.0.attn.relative_position_index": index}}


def convnext(state: State) -> object:
    own = {}
    for name, value in state.items():
        name = name.replace("stem.", "downsample_layers.0.").replace(".blocks.", ".")
        name = re.sub(r"stages\.(\d)\.downsample", r"downsample_layers.\1", name)
        name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        own[name.replace("head.norm", "norm").replace("head.fc", "head")] = value
    return {"model": zeros(own), "model_ema": own}


PUBLISHED: list[tuple[str, Callable[[State], object], str]] = [
    ("vit_tiny_patch16_224", mae, "taken from model; 5 tensors left out .mask_token"),
    ("vit_tiny_patch16_224", dino, 'teacher under "backbone."; also there: student under'),
    ("resnet18", moco, 'under "module.encoder_q."; also there: .*encoder_k'),
    ("resnet18", simclr, "its head of 3 classes is new, the file has none"),
    ("resnet18", lightning, 'under "model.net."; 1 tensor without the prefix left out'),
    ("resnet18", counters_lost, "13 buffers filled by the model"),
    ("resnet18", counted, "2 tensors left out .total_ops"),
    ("resnet18", counters_odd, "1 buffer filled by the model .bn1.num_batches_tracked"),
    ("vit_small_patch14_reg4_dinov2", dinov2, "1 name mapped as timm does"),
    ("deit3_small_patch16_224", deit3, "4 names mapped as timm does"),
    ("swin_tiny_patch4_window7_224", swin, r"relative_position_index\)"),
    ("convnext_tiny", convnext, "taken from model_ema; also there: model; 56 names mapped"),
]


@pytest.mark.parametrize(
    ("name", "publish", "said"), PUBLISHED, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_published_checkpoints_compute_what_their_network_did(
    name: str, publish: Callable[[State], object], said: str, tmp_path: Path
) -> None:
    source = network(name)
    path = written(tmp_path, publish(saved(source)))
    size = FAMILIES[name].get("img_size", 32)
    torch.testing.assert_close(
        features(loaded(name, path), size), features(source, size), atol=1e-6, rtol=0
    )
    note = "; ".join(weights_notes([str(path)]))
    assert re.search(said, note), note


CONTAINERS = ("", "state_dict", "model", "model_state_dict", "model_ema", "ema", "teacher", "net")
PREFIXES = ("", "module.", "model.", "backbone.", "encoder.", "_orig_mod.", "net.", "a.b.c.")
RESNET = saved(network("resnet18"))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(CONTAINERS), max_size=2),
    st.lists(st.sampled_from(PREFIXES), max_size=2),
    st.booleans(),
)
def test_any_container_and_prefix_are_seen_through(
    keys: list[str], prefixes: list[str], beside: bool
) -> None:
    content: object = under("".join(prefixes), RESNET)
    for key in filter(None, keys):
        content = {"epoch": 3, key: content, "other": {"w": torch.zeros(2)}}
    if beside and isinstance(content, dict):
        content["extra_projector.weight"] = torch.zeros(2)
    model = network("resnet18")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_weights(model, content, "x", name="resnet18")
    assert_same(RESNET, model.state_dict())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("state_dict_ema", "model_ema"), ("model_ema", "state_dict"), ("state_dict", "model"),
        ("model", "ema"), ("ema", "teacher"), ("teacher", "net"), ("net", "student"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_of_several_networks_the_documented_one_is_taken(
    first: str, second: str, turned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    content = {first: RESNET, second: zeros(RESNET)}
    if turned and first != "ema":  # these two are of one rank: the file's order counts
        content = dict(reversed(content.items()))
    model = network("resnet18")
    load_weights(model, content, f"{first} {second} {turned}", name="x")
    assert_same(RESNET, model.state_dict())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"taken from {first}; also there: {second}" in record.getMessage()


def test_position_tables_are_resized_as_timm_does(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    state = saved(network(name))
    model = loaded(name, written(tmp_path, {"model": state}), img_size=64)
    expected = resample_abs_pos_embed(state["pos_embed"], [8, 8], num_prefix_tokens=1)
    assert torch.equal(model.state_dict()["pos_embed"], expected)
    assert "resized pos_embed 1x17x16 to 1x65x16" in weights_notes([str(tmp_path / "x.pth")])[0]

    name = "swin_tiny_patch4_window7_224"
    state = saved(network(name))
    model = loaded(name, written(tmp_path, state), window_size=2)
    mapped = swin_filter(state, network(name, window_size=2))
    tables = [key for key in mapped if key.endswith("bias_table")]
    assert len(tables) == 2
    assert all(torch.equal(model.state_dict()[key], mapped[key]) for key in tables)


def test_a_grey_stem_is_made_one_for_colours(tmp_path: Path) -> None:
    state = saved(network("resnet18"))
    state["conv1.weight"] = state["conv1.weight"][:, :1]
    model = loaded("resnet18", written(tmp_path, state))
    expected = adapt_input_conv(3, state["conv1.weight"], base_chans=1)
    assert torch.equal(model.state_dict()["conv1.weight"], expected)


def test_the_head_of_mapped_names_is_kept(tmp_path: Path) -> None:
    source = network("convnext_tiny")
    path = written(tmp_path, convnext(saved(source)))
    assert_same(saved(source), loaded("convnext_tiny", path, None).state_dict())


def test_what_changes_nothing_is_not_said_and_the_rest_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "genkt")
    path = tmp_path / "x.safetensors"
    save_file(RESNET, path)
    loaded("resnet18", path, 5)
    assert not caplog.records and not weights_notes([str(path), None])
    for _ in range(2):
        loaded("resnet18", path, 3)
    (record,) = caplog.records  # another number of classes was asked for: no warning
    assert record.levelno == logging.INFO and "that of the file has 5" in record.getMessage()
    save_file(under("net.", without_head(RESNET)), path)
    for _ in range(2):
        loaded("resnet18", path, None)
    _, wrapped, head = caplog.records
    assert (wrapped.levelno, head.levelno) == (logging.INFO, logging.WARNING)
    said = [wrapped.getMessage(), head.getMessage()]
    assert weights_notes([str(path), str(path)]) == said
    save_file(RESNET, path)
    loaded("resnet18", path, 5)
    assert not weights_notes([str(path)])


def changed(name: str, make: Callable[[Tensor], Tensor]) -> State:
    return RESNET | {name: make(RESNET[name])}


VIT = saved(network("vit_tiny_patch16_224"))
STEM = "conv1.weight"
REFUSED: dict[str, tuple[str, object, str]] = {
    "a block too many": (
        "vit_tiny_patch16_224",
        VIT | {"blocks.2.norm1.weight": torch.zeros(16)},
        "1 unknown.*blocks.2.norm1.weight",
    ),
    "another kind of block": (
        "vit_tiny_patch16_224",
        VIT | {"blocks.0.ls1.gamma": torch.zeros(16)},
        "1 unknown.*ls1.gamma",
    ),
    "a norm the model has not": (
        "vit_tiny_patch16_224",
        VIT | {"norm_pre.weight": torch.zeros(16)},
        "1 unknown.*norm_pre",
    ),
    "a distilled network": (
        "vit_tiny_patch16_224",
        VIT | {"dist_token": torch.zeros(1, 1, 16)},
        "1 unknown.*dist_token",
    ),
    "a table that is no square": (
        "vit_tiny_patch16_224",
        VIT | {"pos_embed": torch.zeros(1, 14, 16)},
        "pos_embed 1x14x16 instead of 1x17x16",
    ),
    "lost statistics": (
        "resnet18",
        {k: v for k, v in RESNET.items() if k != "layer1.0.bn1.running_var"},
        "1 of 80 tensors missing.*layer1.0.bn1.running_var",
    ),
    "a wrong name": (
        "resnet18",
        {k.replace("layer1.0.conv1", "layer1.0.convA"): v for k, v in RESNET.items()},
        "missing layer1.0.conv1.weight.*The file has layer1.0.convA.weight",
    ),
    "wider": ("resnet18", changed(STEM, lambda v: v.repeat(2, 1, 1, 1)), "128x3x7x7 instead of"),
    "not a number": ("resnet18", changed(STEM, lambda v: v / 0), f"9408 values of {STEM} are NaN"),
    "infinite": ("resnet18", changed("bn1.bias", lambda v: v / 0), "values of bn1.bias"),
    "complex": ("resnet18", changed(STEM, lambda v: v + 1j), f"{STEM}: it is complex"),
    "whole numbers": ("resnet18", changed(STEM, lambda v: v.to(torch.int8)), f"int8 at {STEM}"),
    "eight bits": (
        "resnet18",
        changed(STEM, lambda v: v.to(torch.float8_e4m3fn)),
        f"{STEM}: it is quantised",
    ),
    "sparse": (
        "resnet18",
        changed("fc.weight", lambda v: v.to_sparse()),
        "fc.weight: it is sparse",
    ),
    "an optimizer": (
        "resnet18",
        {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}},
        "the state of an optimizer alone",
    ),
    "transformers": (
        "vit_tiny_patch16_224",
        {"vit.embeddings.patch_embeddings.projection.weight": torch.zeros(16, 3, 8, 8)},
        "names of Hugging Face's transformers",
    ),
}


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("case", REFUSED)
def test_other_weights_are_refused_by_name(case: str, tmp_path: Path) -> None:
    name, content, match = REFUSED[case]
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=match) as refused:
        loaded(name, path)
    assert "\n" not in str(refused.value) and "weights_only" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_folder_that_timm_does_not_read_is_read_past_its_settings(tmp_path: Path) -> None:
    """timm refuses a figure of NumPy beside the weights, and tells how to run the file's code."""
    source = load_model(ModelSpec("genkt:digits_teacher"))
    source.export(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    content = {"state_dict": source.model.state_dict(), "best": np.float64(0.5)}
    torch.save(content, tmp_path / "pytorch_model.bin")
    assert load_model(ModelSpec(f"local-dir:{tmp_path}")).fingerprint() == source.fingerprint()


def test_the_commands_take_a_folder_and_name_a_wrong_file(tmp_path: Path) -> None:
    words = ("evaluate", "model=genkt:digits_teacher")
    ran = run(*words, f"weights={tmp_path}")
    assert ran.code == 2 and "pytorch_model.bin" in ran.err and "holds nothing" in ran.err
    (tmp_path / "x.pth").write_text("<html>Please sign in</html>")
    ran = run(*words, f"weights={tmp_path / 'x.pth'}")
    assert ran.code == 2 and "a web page" in ran.err


def test_names_of_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = written(tmp_path, {"a\x1b[2J": RESNET | {"decoder.\r\x07": torch.zeros(1)}})
    loaded("resnet18", path)
    notes = weights_notes([str(path)])
    assert "1 tensor left out" in notes[0] and all(note.isprintable() for note in notes)
    written(tmp_path, RESNET | {"layer1.\x1b[2J\n": torch.zeros(1)})
    with pytest.raises(UserError, match="1 unknown") as refused:
        loaded("resnet18", path)
    assert str(refused.value).isprintable()


def test_a_head_of_no_shape_is_a_new_head(tmp_path: Path) -> None:
    path = written(tmp_path, RESNET | {"fc.weight": torch.zeros(()), "fc.bias": torch.zeros(())})
    for num_classes in (3, None):
        loaded("resnet18", path, num_classes)
    assert "the file has none" in weights_notes([str(path)])[-1]
