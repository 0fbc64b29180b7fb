"""Encoders that read words as well: the two towers of an open_clip model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genkt.config.retrieval_settings import OPEN_CLIP
from genkt.data.transform import ImageTransform
from genkt.io import derive_seed, did_you_mean
from genkt.models.backbone import fingerprint_model
from genkt.models.tensor_files import read_content, reason
from genkt.retrieval.encoder import TOGETHER, Encoder, EncoderSpec, filled
from genkt.stores.embeddings import unit_rows
from genkt.types import UserError

if TYPE_CHECKING:
    from types import ModuleType


class ClipEncoder:
    """An open_clip model: pictures and texts to vectors that can be compared.

    Args:
        model: its ``encode_image`` and ``encode_text`` give [B, D].
        tokenize: texts to their token ids.
        transform: how pictures become its input.
        name: shown in messages and cards.
        device: where it computes.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenize: Callable[[list[str]], Tensor],
        transform: ImageTransform,
        name: str,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = model.requires_grad_(False).eval().to(device)
        self.tokenize, self.transform, self.name = tokenize, transform, name
        self.device = torch.device(device)
        self.width = self.encode_texts([""]).shape[1]

    def fingerprint(self) -> str:
        """See ``Encoder``."""
        return fingerprint_model(self.model)  # QuickGELU and GELU have the same weights

    @torch.no_grad()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """See ``Encoder``."""
        batch = self.transform.normalize(torch.from_numpy(filled(pixels)).to(self.device))
        features: Tensor = self.model.encode_image(batch)  # type: ignore[operator]
        array: NDArray[np.float32] = features.float().cpu().numpy()
        return array[: len(pixels)]

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.floating[Any]]:
        """[n, D] of n texts."""
        parts = []
        for start in range(0, len(texts), TOGETHER):
            batch = list(texts[start : start + TOGETHER])
            rest = [batch[-1]] * (TOGETHER - len(batch))
            tokens = self.tokenize(batch + rest).to(self.device)
            features: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
            parts.append(features.float().cpu().numpy()[: len(batch)])
        return np.concatenate(parts)


def encode_texts(
    encoders: Sequence[Encoder], texts: Sequence[str]
) -> tuple[NDArray[np.float16], ...]:
    """Unit rows of texts, one [n, D_e] array per encoder.

    Raises:
        UserError: an encoder that does not read words, or no text.
    """
    if not texts:
        raise UserError("strategy=text: expected classes to look for, the data have none")
    found = []
    for encoder in encoders:
        if not isinstance(encoder, ClipEncoder):
            raise UserError.of(
                "strategy=text", "encoders that read words (open_clip:NAME)", encoder.name
            )
        found.append(unit_rows(encoder.encode_texts(texts)))
    return tuple(found)


def load_clip(name: str | EncoderSpec, *, device: torch.device | str = "cpu") -> ClipEncoder:
    """The model of ``open_clip:NAME``; ``weights`` is a file or one of its tags.

    Raises:
        UserError: no open_clip, no such model, or weights that are not there.
    """
    open_clip = _library()
    spec = EncoderSpec(name) if isinstance(name, str) else name
    name = spec.name.removeprefix(OPEN_CLIP)
    known = open_clip.list_models()
    if name not in known:
        hint = did_you_mean(name, known) or f" Known: {', '.join(known[:8])}, ..."
        raise UserError(f"encoder {spec.name}: no model of open_clip.{hint}")
    if spec.pretrained and spec.weights is None:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UserError(
            f"encoder {spec.name}: expected encoder.weights, a file or one of its tags ({tags}), "
            "or encoder.pretrained=false"
        )
    try:
        with torch.random.fork_rng(devices=[]):  # weights that are not loaded: alike everywhere
            torch.manual_seed(derive_seed(0, "weights"))
            model = open_clip.create_model(
                name, pretrained=spec.weights if spec.pretrained else None, **(spec.args or {})
            )
        tokenize = open_clip.get_tokenizer(name)
    except Exception as error:  # a hub, a pickle or a shape that does not fit
        if spec.weights is not None and Path(spec.weights).is_file():
            read_content(spec.weights)  # what kind of file it is, where it is a wrong one
        raise UserError(
            f"encoder {spec.name}: its weights {spec.weights} cannot be loaded: {reason(error)}. "
            "Offline? Give a file: encoder.weights=PATH"
        ) from error
    transform = _transform(open_clip.get_model_preprocess_cfg(model))
    return ClipEncoder(model, tokenize, transform, spec.name, device)


def _library() -> ModuleType:
    try:
        import open_clip
    except ImportError as error:
        raise UserError(
            "encoder open_clip:NAME: needs open_clip; install it with pip install 'genkt[text]'"
        ) from error
    library: ModuleType = open_clip
    return library


def _transform(config: dict[str, Any]) -> ImageTransform:
    """The evaluation transform that open_clip describes."""
    size = config["size"]
    height, width = (size, size) if isinstance(size, int) else size
    squash = config.get("resize_mode") == "squash"
    return ImageTransform(
        (height, width),
        tuple(config["mean"]),
        tuple(config["std"]),
        config.get("interpolation", "bicubic"),
        1.0,
        "squash" if squash else "center",
    )
