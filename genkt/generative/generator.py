"""The generator: a VQGAN and what completes its token grids; pictures in, pictures out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genkt.data.images import content_hash, decode
from genkt.generative.completer import (
    Completion,
    CompletionOptions,
    Seeds,
    TokenCompleter,
    join_completions,
)
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.latent_transformer import LatentTransformer
from genkt.generative.masks import check_masks, dilate, fill_hidden, hidden_tokens, to_pixels
from genkt.generative.vqgan import VQGAN
from genkt.io import (
    derive_seed,
    did_you_mean,
    fingerprint,
    home_path,
    nearby,
    read_json,
    resource,
    shown,
)
from genkt.types import UserError

SHIPPED = "genkt:"
"""What stands before the name of a generator in ``checkpoints/``."""

Pictures = Tensor | Image.Image | np.ndarray | Sequence[Image.Image | np.ndarray]
"""uint8 throughout: a tensor [N, 3, size, size]; a Pillow image or an array [H, W] or [H, W, 3]; or
several of these, arrays also as one [N, H, W, 3]."""

_ROWS = 256
"""Completions drawn at once by ``Generator.complete``, so that its memory stays flat."""


class Generator:
    """Re-represents pictures (IRF) and completes masked ones (DIGG).

    Source: Wang et al. 2022, "One to Transfer All", sections 3.1 and 3.2.

    Args:
        vqgan: pictures to tokens and back.
        completer: draws hidden tokens; None where pictures are only reconstructed.
        name: shown in cards and messages.

    Raises:
        UserError: a completer for another codebook or another grid.
    """

    def __init__(
        self, vqgan: VQGAN, completer: TokenCompleter | None = None, name: str = "generator"
    ) -> None:
        if completer is not None and completer.num_codes != vqgan.num_codes:
            raise UserError(
                f"generator {name}: the VQGAN has {vqgan.num_codes} codes, its completer "
                f"{completer.num_codes}"
            )
        if completer is not None and completer.grid != vqgan.grid:
            raise UserError(
                f"generator {name}: the VQGAN makes {vqgan.grid} tokens, its completer takes "
                f"{completer.grid}"
            )
        self.vqgan, self.completer, self.name = vqgan, completer, name

    @property
    def size(self) -> int:
        """Side in pixels of the square pictures it works on."""
        return self.vqgan.size

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.vqgan.codebook.device

    def to(self, device: torch.device | str) -> Generator:
        """Move the networks; returns itself."""
        self.vqgan.to(device)
        if isinstance(self.completer, torch.nn.Module):
            self.completer.to(device)
        return self

    def reconstruct(self, images: Pictures) -> Tensor:
        """The pictures as the generator represents them (IRF, stage 2).

        Args:
            images: [N, 3, size, size] uint8, or pictures of any size, which are fitted.

        Returns:
            [N, 3, size, size] uint8 on the CPU.
        """
        pictures = self.as_images(images)
        return self.vqgan.decode(self.vqgan.encode(pictures)).cpu()

    def complete(
        self,
        images: Pictures,
        masks: Tensor | np.ndarray | Sequence[np.ndarray | Image.Image],
        *,
        num_samples: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        encode: Literal["masked", "full"] = "masked",
        fill: Literal["edge", "grey"] = "edge",
        dilation: int = 1,
        keep_visible: bool = False,
        conditions: Tensor | None = None,
    ) -> Completion:
        """Draw the hidden part of pictures anew, several times each (DIGG).

        A sample depends only on the seed, its picture's content and its own number, not on
        the other pictures of the call.

        Args:
            images: as for ``reconstruct``.
            masks: bool [N, size, size] or one [size, size] for all; True is hidden.
            num_samples: S completions per picture.
            temperature, top_k, top_p: of the sampling; temperature 0 is greedy.
            encode, fill, dilation, keep_visible: see ``CompletionOptions``.
            conditions: [N] classes, for a class-conditional transformer.

        Returns:
            Images [N, S, 3, size, size], tokens and hidden tokens, on the CPU.

        Raises:
            UserError: masks of another shape, or that hide nothing or everything.
        """
        pictures = self.as_images(images)
        several = isinstance(masks, (list, tuple))
        given = np.stack([np.asarray(mask) for mask in masks]) if several else masks
        hidden = torch.as_tensor(given).cpu()
        if hidden.ndim == 2:
            hidden = hidden.expand(len(pictures), -1, -1)
        if num_samples < 1:
            raise UserError.of("num_samples", "at least 1", num_samples)
        hashes = [content_hash(picture.numpy().tobytes()) for picture in pictures]
        seeds = [[derive_seed(seed, h, k) for k in range(num_samples)] for h in hashes]
        sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
        options = CompletionOptions(sampling, encode, fill, dilation, keep_visible)
        check_masks(hidden, pictures)
        size = max(1, _ROWS // num_samples)
        parts = [slice(at, at + size) for at in range(0, max(1, len(pictures)), size)]
        done = [
            self.complete_images(
                pictures[part], hidden[part], seeds[part], options,
                None if conditions is None else conditions[part],
            )
            for part in parts
        ]  # fmt: skip
        return join_completions(done)

    def complete_images(
        self, images: Tensor, masks: Tensor, seeds: Seeds, options: CompletionOptions,
        conditions: Tensor | None = None,
    ) -> Completion:  # fmt: skip
        """See ``ImageCompleter``."""
        check_masks(masks, images)
        tokens, hidden = self.visible_tokens(images, masks, options)
        conditions = self.conditions(images, conditions)
        drawn = self.draw(tokens, hidden, seeds, options.sampling, conditions)
        decoded = self.vqgan.decode(drawn.flatten(0, 1)).cpu()
        completed = decoded.view(*drawn.shape[:2], *decoded.shape[1:])
        if options.keep_visible:
            completed = torch.where(masks.cpu()[:, None, None], completed, images.cpu()[:, None])
        return Completion(completed, drawn.cpu(), hidden.cpu())

    def visible_tokens(
        self, images: Tensor, masks: Tensor, options: CompletionOptions
    ) -> tuple[Tensor, Tensor]:
        """Tokens [B, h, w] of masked pictures, and which of them [B, h, w] are to be drawn.

        Masking comes first: the encoder has a large receptive field, so visible tokens would
        otherwise contain hidden content. Rings of ``dilation`` tokens around the mask are hidden
        too, as the fill shows there.
        """
        hidden = dilate(hidden_tokens(masks, self.vqgan.grid), options.dilation)
        if options.encode == "masked":
            covered = to_pixels(hidden_tokens(masks, self.vqgan.grid), self.vqgan.downsampling)
            images = fill_hidden(images, covered, options.fill)
        tokens = self.vqgan.encode(images).cpu()
        return tokens, hidden

    def conditions(self, images: Tensor, labels: Tensor | None) -> Tensor | None:
        """[B] the completer's condition for each whole picture, or None.

        Args:
            labels: [B] classes where the completer needs them.
        """
        if not isinstance(self.completer, LatentTransformer):
            return labels
        if self.completer.config.condition == "image":
            tokens = self.vqgan.encode(images).cpu()
            return self.completer.conditions_of(tokens, None)
        return labels

    def draw(
        self, tokens: Tensor, hidden: Tensor, seeds: Seeds, sampling: Sampling,
        conditions: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """[B, S, h, w] the hidden tokens drawn.

        Raises:
            UserError: a generator without a completer.
        """
        return self.require_completer().complete(tokens, hidden, seeds, sampling, conditions)

    def require_completer(self) -> TokenCompleter:
        """The completer.

        Raises:
            UserError: there is none.
        """
        if self.completer is None:
            raise UserError(
                f"generator {self.name}: has no latent transformer, so it can reconstruct (IRF) "
                "but not complete (DIGG)"
            )
        return self.completer

    @property
    def needs_classes(self) -> bool:
        """Whether completions need the class of each picture."""
        completer = self.completer
        return isinstance(completer, LatentTransformer) and completer.config.condition == "class"

    def as_images(self, images: Pictures) -> Tensor:
        """Pictures of any size as uint8 [N, 3, size, size]: the shorter side fitted, the middle.

        Raises:
            UserError: a tensor of another shape or type.
        """
        if isinstance(images, Tensor):
            expected = (3, self.size, self.size)
            if images.ndim != 4 or images.shape[1:] != expected or images.dtype != torch.uint8:
                raise UserError.of(
                    "images",
                    f"uint8 [N, 3, {self.size}, {self.size}]",
                    f"{images.dtype} {list(images.shape)}",
                )
            return images.cpu()
        one = isinstance(images, Image.Image) or (
            isinstance(images, np.ndarray) and images.ndim in (2, 3)
        )
        several: Any = [images] if one else images
        fitted = [fit_picture(as_picture(image), self.size) for image in several]
        if not fitted:
            return torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return torch.from_numpy(np.stack(fitted)).permute(0, 3, 1, 2).contiguous()

    def fingerprint(self) -> str:
        """Hash of all weights."""
        completer = getattr(self.completer, "fingerprint", lambda: "none")()
        return fingerprint(self.vqgan.fingerprint(), completer)


def as_picture(image: Image.Image | np.ndarray) -> Image.Image:
    """A picture or a uint8 array [H, W] or [H, W, 3] as upright RGB.

    Raises:
        UserError: an array of another shape or type.
    """
    if isinstance(image, np.ndarray) and (
        image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,))
    ):
        raise UserError.of(
            "images", "uint8 arrays [H, W] or [H, W, 3]", f"{image.dtype} {list(image.shape)}"
        )
    return decode(Image.fromarray(image) if isinstance(image, np.ndarray) else image)


def fit_picture(picture: Image.Image, size: int) -> np.ndarray:
    """uint8 [size, size, 3]: the shorter side scaled to ``size``, the middle kept."""
    scale = size / min(picture.size)
    width, height = (max(size, round(side * scale)) for side in picture.size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def load_generator(name: str | Path, *, device: torch.device | str = "cpu") -> Generator:
    """A generator from its folder, or a shipped one: ``genkt:digits_generator``.

    Args:
        name: a folder that holds ``vqgan/`` and, for completions, ``transformer/``.

    Raises:
        UserError: no such generator, or files that do not fit together.

    Example:
        >>> generator = load_generator("genkt:digits_generator")
        >>> pictures = np.zeros((3, 28, 28, 3), np.uint8)
        >>> right_half = np.arange(generator.size) >= generator.size // 2
        >>> hidden = np.broadcast_to(right_half, (generator.size, generator.size))
        >>> drawn = generator.complete(pictures, hidden, num_samples=2, seed=0, temperature=1.0)
        >>> drawn.images.shape, drawn.tokens.shape[:2]
        (torch.Size([3, 2, 3, 32, 32]), torch.Size([3, 2]))
        >>> generator.reconstruct(pictures).dtype
        torch.uint8
    """
    shipped = str(name).startswith(SHIPPED)
    directory = _shipped(str(name)) if shipped else home_path(name)
    if not directory.exists():
        raise UserError(f"generator {shown(name)}: no such folder{nearby(directory)}")
    if not (directory / "vqgan" / "config.json").is_file():
        raise UserError(
            f"generator {name}: expected a folder with vqgan/config.json (genkt prime and "
            "genkt convert make such folders), or genkt:NAME for a shipped one"
        )
    vqgan = VQGAN.load(directory / "vqgan")
    completer = _completer(directory / "transformer")
    return Generator(vqgan, completer, str(name)).to(device)


def _completer(directory: Path) -> TokenCompleter | None:
    """What ``transformer/`` holds: a latent transformer, or a UViT for parallel decoding."""
    if not directory.is_dir():
        return None
    config = directory / "config.json"
    if config.is_file() and read_json(config).get("_class_name") == "UVit2DModel":
        from genkt.generative.masked import MaskedTransformer

        return MaskedTransformer.load(directory)
    return LatentTransformer.load(directory)


def _shipped(name: str) -> Path:
    home = resource("checkpoints")
    short = name.removeprefix(SHIPPED)
    known = sorted(path.parent.parent.name for path in home.glob("*/vqgan/config.json"))
    if short not in known:
        choices = " | ".join(SHIPPED + each for each in known) or "a folder"
        raise UserError(f"generator {name}: expected {choices}.{did_you_mean(short, known)}")
    return home / short
