"""Encoders by name: a network's features, a picture's own coarse pixels, or an open_clip model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from genkt.config.retrieval_settings import OPEN_CLIP, PIXELS, EncoderSettings
from genkt.data.crops import CropSpec
from genkt.data.transform import ImageTransform
from genkt.io import fingerprint, home_path
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model
from genkt.retrieval.clip import load_clip
from genkt.retrieval.encoder import TOGETHER, Encoder, EncoderSpec, filled
from genkt.stores.embeddings import embedding_identity
from genkt.types import UserError


class PixelsEncoder:
    """A picture's own coarse pixels around mid grey: similar means the same look, not content.

    Networks learn to ignore light and dark; here a picture and its negative are opposites.
    """

    name = PIXELS

    def __init__(self, side: int = 8) -> None:
        half = (0.5, 0.5, 0.5)
        self.transform = ImageTransform((side, side), half, half, "box", 1.0, "squash")
        self.width = 3 * side * side

    def fingerprint(self) -> str:
        """See ``Encoder``."""
        return fingerprint(self.name)

    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """See ``Encoder``."""
        return pixels.reshape(len(pixels), -1).astype(np.float64) / 127.5 - 1


class BackboneEncoder:
    """The features of a classifier, as its head would see them.

    Args:
        backbone: the model.  device: where it computes.
    """

    def __init__(self, backbone: Backbone, device: torch.device | str = "cpu") -> None:
        self.backbone = backbone.freeze().to(device)
        self.name, self.width, self.transform = backbone.name, backbone.width, backbone.transform
        self.device = torch.device(device)

    def fingerprint(self) -> str:
        """See ``Encoder``."""
        return self.backbone.fingerprint()

    @torch.no_grad()
    def encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.floating[Any]]:
        """See ``Encoder``."""
        batch = self.backbone.normalize(torch.from_numpy(filled(pixels)).to(self.device))
        features: NDArray[np.float32] = self.backbone(batch).features.float().cpu().numpy()
        return features[: len(pixels)]


def encoder_specs(settings: EncoderSettings) -> list[EncoderSpec]:
    """One per encoder of the settings."""
    return [
        EncoderSpec(
            name, settings.pretrained, file, settings.args, settings.transform,
            settings.channels_last,
        )
        for name, file in zip(settings.names, settings.files, strict=True)
    ]  # fmt: skip


def load_encoder(name: str | EncoderSpec, *, device: torch.device | str = "cpu") -> Encoder:
    """Build an encoder: ``pixels``, ``open_clip:NAME``, or a model by any name of ``load_model``.

    Raises:
        UserError: no such model, or weights that are not there.
    """
    spec = EncoderSpec(name) if isinstance(name, str) else name
    if spec.name == PIXELS:
        return PixelsEncoder()
    if spec.name.startswith(OPEN_CLIP):
        clip: Encoder = load_clip(spec, device=device)
        return clip
    model = ModelSpec(
        spec.name, spec.pretrained, spec.weights, spec.args or {}, spec.transform or {},
        spec.channels_last,
    )  # fmt: skip
    if spec.weights is not None and not home_path(spec.weights).exists():
        raise UserError(f"encoder.weights: no such file: {spec.weights}")
    return BackboneEncoder(load_model(model), device)


def loaded(spec: EncoderSpec, device: str, expected: str) -> Encoder:
    """The same, kept: a process that runs many tasks loads their encoder once.

    Args:
        expected: its fingerprint where the run began.

    Raises:
        UserError: it has another one here.
    """
    described = json.dumps(asdict(spec), sort_keys=True)
    encoder, found = _loaded(described, device)
    if found != expected:  # a file of weights may have changed since this process read it
        _loaded.cache_clear()
        encoder, found = _loaded(described, device)
    if found != expected:
        raise UserError(
            f"encoder {spec.name}: has other weights here than where the run began; give the same "
            "files everywhere"
        )
    return encoder


@lru_cache(maxsize=2)
def _loaded(described: str, device: str) -> tuple[Encoder, str]:
    encoder = load_encoder(EncoderSpec(**json.loads(described)), device=device)
    return encoder, encoder.fingerprint()


def identity_of(encoder: Encoder, crops: CropSpec | None, decoding: int) -> dict[str, Any]:
    """What names an encoder's store of images, or of crops of them."""
    return embedding_identity(
        encoder=encoder.fingerprint(),
        width=encoder.width,
        transform=encoder.transform.as_dict(),
        crops=crops,
        decoding=decoding,
    )


def encode_all(encoder: Encoder, pictures: Sequence[Image.Image]) -> NDArray[np.floating[Any]]:
    """[N, D] of whole pictures."""
    prepared = [encoder.transform.to_uint8(picture).numpy() for picture in pictures]
    parts = [
        encoder.encode(np.stack(prepared[start : start + TOGETHER]))
        for start in range(0, len(prepared), TOGETHER)
    ]
    return np.concatenate(parts) if parts else np.empty((0, encoder.width))
