"""What is measured of a generator: reconstruction, codebook, likelihood, Frechet distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from genkt.data.images import ImageSet
from genkt.generative.generator import Generator, fit_picture
from genkt.generative.latent_transformer import LatentTransformer
from genkt.generative.vqgan import VQGAN
from genkt.io import fingerprint_tensors
from genkt.losses.vq import codebook_perplexity, psnr
from genkt.metrics.frechet import frechet_distance
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model
from genkt.upstream.generator.generator_sheets import half_masks
from genkt.upstream.generator.train_transformer import negative_log_likelihood
from genkt.upstream.upstream_pictures import GlyphUpstream, Upstream

_CHUNK = 64
NUM_MEASURED = 797
"""Most pictures a Frechet distance compares: as many as the built-in test sets have."""


def measure_vqgan(vqgan: VQGAN, images: Tensor, features: str) -> dict[str, float]:
    """PSNR in dB, codes in use, their perplexity and the Frechet distance, on held-out pictures.

    Args:
        images: [N, 3, size, size] uint8.  features: model whose features are compared.
    """
    tokens = vqgan.encode(images).cpu()
    decoded = vqgan.decode(tokens).cpu()
    counts = torch.bincount(tokens.flatten(), minlength=vqgan.num_codes)
    model = feature_model(features)
    return {
        "psnr": psnr(images.float(), decoded.float()).item(),
        "held_out_codes": float((counts > 0).sum().item()),
        "held_out_perplexity": codebook_perplexity(counts).item(),
        "fd": frechet_distance(features_of(model, images), features_of(model, decoded)),
    }


@torch.no_grad()
def measure_transformer(
    transformer: LatentTransformer, vqgan: VQGAN, images: Tensor
) -> dict[str, float]:
    """Nats per token of held-out pictures, one figure per scan ("nats_down" ...)."""
    device = vqgan.codebook.device
    transformer = transformer.to(device)
    figures = {}
    tokens = vqgan.encode(images)
    labels = torch.full((len(tokens),), -1, device=device)
    for index, scan in enumerate(transformer.config.scans):
        scans = torch.full((len(tokens),), index, device=device)
        figures[f"nats_{scan}"] = negative_log_likelihood(transformer, tokens, scans, labels).item()
    return figures


def measure_generator(generator: Generator, upstream: Upstream, features: str) -> dict[str, Any]:
    """The figures of a card: upstream, and for the built-in world downstream too.

    ``fd`` of upstream compares upstream pictures with other ones re-represented, ``fd_floor`` as
    they are;
    ``fd_original`` and ``fd_represented`` compare upstream with downstream pictures, as they are
    and re-represented (the paper's Figure 4). All sets have the same size.
    """
    sample = upstream.sample(2 * NUM_MEASURED, 1)
    known, others = sample[: len(sample) // 2], sample[len(sample) // 2 :][: len(sample) // 2]
    model = feature_model(features)
    reference = features_of(model, known)
    rebuilt = generator.reconstruct(others)
    figures: dict[str, Any] = {
        "upstream": {
            **measure_vqgan(generator.vqgan, others, features),
            "num_pictures": len(known),
            "fd": frechet_distance(reference, features_of(model, rebuilt)),
            "fd_floor": frechet_distance(reference, features_of(model, others)),
        },
    }
    completer = generator.completer
    if isinstance(completer, LatentTransformer) and completer.config.condition != "class":
        figures["upstream"] |= measure_transformer(completer, generator.vqgan, others)
    if isinstance(upstream, GlyphUpstream):
        for name, images, on_photos in built_in_tests(generator.size):
            same_kind = features_of(model, upstream.sample(len(images), 3, on_photos=on_photos))
            figures[name] = _downstream_figures(generator, images, model, same_kind)
        if isinstance(completer, LatentTransformer) and completer.config.condition != "class":
            figures["upstream"]["example_tokens"] = example_tokens(generator)
    return figures


def example_tokens(generator: Generator) -> str:
    """Fingerprint of four completions of built-in digits: the same on every machine."""
    images = built_in_tests(generator.size)[0][1][30:34]
    completed = generator.complete(images, half_masks(4, generator.size, "bottom"), num_samples=4)
    assert completed.tokens is not None
    return fingerprint_tensors({"tokens": completed.tokens})


def _downstream_figures(
    generator: Generator, images: Tensor, model: Backbone, upstream: np.ndarray
) -> dict[str, float]:
    rebuilt = generator.reconstruct(images)
    return {
        "psnr": psnr(images.float(), rebuilt.float()).item(),
        "fd_original": frechet_distance(upstream, features_of(model, images)),
        "fd_represented": frechet_distance(upstream, features_of(model, rebuilt)),
    }


def built_in_tests(size: int) -> list[tuple[str, Tensor, float]]:
    """The test sets of the built-in tasks, and the share on photographs of their upstream."""
    from genkt.data.builtin.digits import digits, digits_on_photos

    found = []
    for name, splits, share in (
        ("digits", digits(), 0.0), ("digits_on_photos", digits_on_photos(), 1.0),
    ):  # fmt: skip
        test = splits.test
        assert test is not None
        found.append((name, stack_images(test, size), share))
    return found


def stack_images(images: ImageSet, size: int) -> Tensor:
    """All pictures of a set as [N, 3, size, size] uint8, fitted."""
    pictures = [fit_picture(images.load(index), size) for index in range(len(images))]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def feature_model(name: str) -> Backbone:
    """A frozen model by timm name, ``genkt:NAME`` or ``local-dir:PATH``."""
    return load_model(ModelSpec(name)).freeze()


@torch.no_grad()
def features_of(model: Backbone, images: Tensor) -> np.ndarray:
    """[N, D] float64 pre-logit features of uint8 pictures, under the model's own transform."""
    from PIL import Image

    rows = []
    for part in torch.split(images, _CHUNK):
        pictures = [
            model.transform.to_uint8(Image.fromarray(picture))
            for picture in part.permute(0, 2, 3, 1).numpy()
        ]
        inputs = model.normalize(torch.stack(pictures))
        rows.append(model(inputs).features.double().numpy())
    return np.concatenate(rows)
