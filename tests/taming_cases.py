"""Checkpoints as taming writes them, of small networks of its own modules."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import torch
import yaml
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.transformer.mingpt import GPT
from taming.modules.vqvae.quantize import VectorQuantizer
from torch import Tensor, nn

from genkt.generative.convert import CheckpointFacts, Converted, convert
from genkt.generative.vqgan import VQGAN

SIZE, CODES, CODE_DIM, LATENT = 16, 24, 6, 8
HEADS, LAYERS, WIDTH, CLASSES = 4, 2, 16, 10
DDCONFIG: dict[str, Any] = {
    "double_z": False, "z_channels": LATENT, "resolution": SIZE, "in_channels": 3, "out_ch": 3,
    "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [8], "dropout": 0.0,
}  # fmt: skip


class TamingVQ(nn.Module):
    """``taming.models.vqgan.VQModel`` without Lightning: the same parts under the same names."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        config = {**DDCONFIG, **changes}
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
            torch.manual_seed(7)
            self.encoder, self.decoder = Encoder(**config), Decoder(**config)
            self.quantize = VectorQuantizer(CODES, CODE_DIM, beta=0.25)
            self.quant_conv = nn.Conv2d(LATENT, CODE_DIM, 1)
            self.post_quant_conv = nn.Conv2d(CODE_DIM, LATENT, 1)
            self.loss = nn.ModuleDict({"discriminator": nn.Conv2d(3, 4, 3)})
            for value in self.parameters():  # every weight counts, biases and norms too
                value.data += 0.1 * torch.randn(value.shape)
            self.quantize.embedding.weight.data.normal_(0, 0.5)
        self.eval().requires_grad_(False)

    def latents(self, pictures: Tensor) -> Tensor:
        """Before quantisation, [B, D, h, w]."""
        found: Tensor = self.quant_conv(self.encoder(pictures))
        return found

    def decode(self, codes: Tensor) -> Tensor:
        """Pictures of quantised latents [B, D, h, w]."""
        found: Tensor = self.decoder(self.post_quant_conv(codes))
        return found


class TamingTransformer(nn.Module):
    """``Net2NetTransformer`` without Lightning; its condition (class or start) has no weight."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(8)
            size = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH, **changes}
            self.transformer = GPT(CODES, 64, **size)
            for value in self.transformer.parameters():
                value.data += 0.3 * torch.randn(value.shape)
        self.first_stage_model = TamingVQ()
        self.eval().requires_grad_(False)


def vqgan_yaml(**changes: Any) -> dict[str, Any]:
    params = {"embed_dim": CODE_DIM, "n_embed": CODES, "ddconfig": {**DDCONFIG, **changes}}
    return {"model": {"target": "taming.models.vqgan.VQModel", "params": params}}


def transformer_yaml(condition: Any, **changes: Any) -> dict[str, Any]:
    network = {
        "vocab_size": CODES, "block_size": 64, "n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH,
    }  # fmt: skip
    params = {
        "transformer_config": {
            "target": "taming.modules.transformer.mingpt.GPT",
            "params": network,
        },
        "first_stage_config": vqgan_yaml()["model"],
        "cond_stage_config": condition,
        **changes,
    }
    return {
        "model": {"target": "taming.models.cond_transformer.Net2NetTransformer", "params": params}
    }


BY_CLASS = {"target": "taming.modules.util.Labelator", "params": {"n_classes": CLASSES}}


def write_yaml(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def pictures() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (8, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)


def close(found: Tensor, expected: Tensor) -> bool:
    return torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def assert_same_vqgan(vqgan: VQGAN, taming: TamingVQ) -> None:
    images = pictures()
    signed = images.float() / 127.5 - 1
    latents = taming.latents(signed)
    quantized, _, (_, _, indices) = taming.quantize(latents)
    assert close(vqgan.model.encode(signed).latents, latents)
    tokens = vqgan.encode(images)
    assert torch.equal(tokens.flatten(), indices.flatten()) and tokens.unique().numel() > 3
    codes = vqgan.codebook[tokens].permute(0, 3, 1, 2).contiguous()
    assert torch.equal(codes, taming.quantize.embedding(tokens).permute(0, 3, 1, 2))
    decoded = vqgan.model.decode(codes, force_not_quantize=True).sample
    assert close(decoded, taming.decode(codes)) and close(decoded, taming.decode(quantized))


def convert_state(
    home: Path, state: dict[str, Tensor], given: CheckpointFacts | None = None, **more: Any
) -> Converted:
    """Convert a state dict in a file of its own."""
    torch.save(state, home / "x.ckpt")
    return convert(home / "x.ckpt", home / "out", given=given or CheckpointFacts(SIZE), **more)
