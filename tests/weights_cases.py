"""Checkpoints as their authors publish them, made of small networks of the same families."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from genkt.models.load import ModelSpec, load_model

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
