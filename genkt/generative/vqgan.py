"""The VQGAN: pictures to grids of tokens and back, on diffusers' ``VQModel`` and its files."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genkt.files import require_sealed, sealed_folder
from genkt.io import fingerprint_tensors
from genkt.precision import full_precision, threads
from genkt.types import UserError

_CHUNK = 64
"""Pictures encoded at once, however many are asked for."""

_TOGETHER = 8
"""Grids decoded at once: with another number the last bit of a pixel can differ."""

_PIXELS = 2**22
"""Pixels decoded at once on a CPU, by several threads: what bounds the memory."""

_SLACK = 1e-5
"""Relative error of a squared distance in float32: seven times the largest that was seen."""


class VQGAN(nn.Module):
    """A frozen VQGAN (Esser et al. 2021, "Taming Transformers").

    Tokens are those of float64 arithmetic: where float32 leaves open which of two codes is
    nearer, the picture is encoded again in float64. So no batch size, thread count or device
    changes a token. Pictures are decoded in batches of one fixed size, on a CPU by one thread each,
    so that on one machine no picture depends on the others or on the number of threads.

    Args:
        model: diffusers' ``VQModel``; with codes of unit norm its Euclidean lookup is the cosine
            one.

    Example:
        >>> vqgan = VQGAN(build_vqmodel(num_codes=16, code_dim=4, channels=(8, 8), size=16))
        >>> tokens = vqgan.encode(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))
        >>> tuple(tokens.shape), tuple(vqgan.decode(tokens).shape)
        ((2, 8, 8), (2, 3, 16, 16))
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model: Any = model.eval().requires_grad_(False)
        self._exact: dict[torch.device, Any] = {}

    @property
    def size(self) -> int:
        """Side in pixels of the pictures it was trained on."""
        return int(self.model.config.sample_size)

    @property
    def downsampling(self) -> int:
        """f: pixels along the side of one token."""
        return int(2 ** (len(self.model.config.block_out_channels) - 1))

    @property
    def num_codes(self) -> int:
        """Entries of the codebook."""
        return int(self.model.config.num_vq_embeddings)

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) of the tokens of a picture of the trained size."""
        side = self.size // self.downsampling
        return side, side

    @property
    def codebook(self) -> Tensor:
        """[num_codes, D] the codes."""
        weight: Tensor = self.model.quantize.embedding.weight
        return weight

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Tokens of pictures.

        Args:
            images: [B, 3, H, W] uint8; H and W multiples of ``downsampling``.

        Returns:
            [B, H/f, W/f] int64.

        Raises:
            UserError: another dtype or shape.
        """
        self._check_images(images)
        height, width = (side // self.downsampling for side in images.shape[2:])
        tokens = torch.empty(0, height, width, dtype=torch.long, device=self.codebook.device)
        if not len(images):
            return tokens
        return torch.cat([self._encode_together(part) for part in torch.split(images, _CHUNK)])

    def _encode_together(self, images: Tensor) -> Tensor:
        images = images.to(self.codebook.device)
        tokens, doubtful = _nearest(self._latents(self.model, images), self.codebook)
        rows = doubtful.flatten(1).any(dim=1)
        if rows.any():
            latents = self._latents(self._in_float64(), images[rows])
            tokens[rows] = _nearest(latents, self.codebook.double())[0]
        return tokens

    def decode(self, tokens: Tensor) -> Tensor:
        """Pictures of tokens: [B, h, w] int64 -> [B, 3, h f, w f] uint8.

        Raises:
            UserError: a token that is no index of the codebook, or another shape.
        """
        if tokens.ndim != 3 or tokens.is_floating_point():
            raise UserError.of(
                "tokens", "integers [B, h, w]", f"{tokens.dtype} {list(tokens.shape)}"
            )
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.num_codes:
            raise UserError.of(
                "tokens",
                f"0 to {self.num_codes - 1}",
                f"{int(tokens.min())} to {int(tokens.max())}",
            )
        tokens = tokens.to(self.codebook.device)
        if not len(tokens):
            height, width = (side * self.downsampling for side in tokens.shape[1:])
            return torch.empty(0, 3, height, width, dtype=torch.uint8, device=tokens.device)
        parts = torch.split(tokens, _TOGETHER)
        with full_precision(tokens.device):
            if tokens.device.type != "cpu":
                return torch.cat([self._decode_together(part) for part in parts])
            with threads(1) as num_threads:
                pixels = parts[0].shape[1:].numel() * self.downsampling**2 * _TOGETHER
                workers = max(1, min(num_threads, len(parts), _PIXELS // pixels))
                with ThreadPoolExecutor(workers) as pool:
                    return torch.cat(list(pool.map(self._decode_together, parts)))

    def save(self, directory: str | Path, *, half: bool = False) -> Path:
        """Write ``config.json`` and safetensors as diffusers does; ``half``: in float16."""
        model = copy.deepcopy(self.model).half() if half else self.model
        num_bytes = sum(value.nbytes for value in model.state_dict().values())
        with sealed_folder(directory, num_bytes) as temporary:
            model.save_pretrained(temporary, safe_serialization=True)
        return Path(directory)

    @staticmethod
    def load(directory: str | Path) -> VQGAN:
        """Read a folder that ``save`` or diffusers wrote; weights become float32.

        Raises:
            UserError: no such folder, or files that do not fit together.
        """
        from diffusers import VQModel

        if not (Path(directory) / "config.json").is_file():
            raise UserError(f"{directory}: expected a VQGAN folder (config.json), found none")
        require_sealed(Path(directory))
        try:
            loaded: Any = VQModel
            model = loaded.from_pretrained(
                str(directory), local_files_only=True, low_cpu_mem_usage=False
            ).float()
        except Exception as error:  # diffusers raises anything from KeyError to SafetensorError
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{directory}: not a readable VQGAN: {reason}") from error
        return VQGAN(model)

    def fingerprint(self) -> str:
        """Hash of all weights."""
        return fingerprint_tensors(self.model.state_dict())

    @torch.no_grad()
    def _decode_together(self, tokens: Tensor) -> Tensor:
        """At most ``_TOGETHER`` grids, always computed in a batch of that size."""
        filled = torch.cat([tokens, tokens.new_zeros(_TOGETHER - len(tokens), *tokens.shape[1:])])
        codes = self.codebook[filled].permute(0, 3, 1, 2).contiguous()
        decoded = self.model.decode(codes, force_not_quantize=True).sample
        return to_uint8(decoded[: len(tokens)])

    def _check_images(self, images: Tensor) -> None:
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise UserError.of(
                "images", "uint8 [B, 3, H, W]", f"{images.dtype} {list(images.shape)}"
            )
        factor = self.downsampling
        if images.shape[2] % factor or images.shape[3] % factor:
            raise UserError.of(
                "images",
                f"sides that are multiples of {factor}",
                f"{images.shape[2]} x {images.shape[3]}",
            )

    def _latents(self, model: Any, images: Tensor) -> Tensor:
        """[B, h, w, D] before quantisation, in the model's precision."""
        with full_precision(images.device):
            latents: Tensor = model.quant_conv(model.encoder(to_signed(images, model.dtype)))
        return latents.permute(0, 2, 3, 1)

    def _in_float64(self) -> Any:
        device = self.codebook.device
        if device not in self._exact:
            self._exact[device] = copy.deepcopy(self.model).double()
        return self._exact[device]


def build_vqmodel(
    *, num_codes: int, code_dim: int, channels: tuple[int, ...], size: int, layers: int = 1
) -> Any:
    """An untrained ``VQModel`` in RGB.

    Args:
        num_codes, code_dim: of the codebook.
        channels: width at each resolution; one halving between two of them.
        size: side of the pictures.  layers: residual blocks per resolution
            (one more in the decoder).
    """
    from diffusers import VQModel

    groups = next(g for g in (32, 16, 8, 4, 2, 1) if all(c % g == 0 and c > g for c in channels))
    network: Any = VQModel
    return network(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=layers,
        latent_channels=code_dim,
        sample_size=size,
        num_vq_embeddings=num_codes,
        norm_num_groups=groups,
        vq_embed_dim=code_dim,
    )


def to_signed(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 0..255 -> -1..1, the range VQGANs work in."""
    return images.to(dtype) / 127.5 - 1


def to_uint8(pictures: Tensor) -> Tensor:
    """-1..1 -> uint8, rounded and clamped."""
    return ((pictures.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _nearest(latents: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the nearest code [B, h, w], and where rounding may have decided it."""
    lengths = codebook.square().sum(dim=1)
    distances = lengths - 2 * (latents @ codebook.T)
    best = distances.topk(2, dim=-1, largest=False)
    scale = latents.square().sum(dim=-1) + lengths.max()
    gap = best.values[..., 1] - best.values[..., 0]
    return best.indices[..., 0], gap <= _SLACK * scale
