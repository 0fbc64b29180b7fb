"""Priming, first half: the VQGAN on upstream pictures."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genkt.config.prime_settings import GanSettings, PerceptualSettings, VQGANSettings
from genkt.generative.perceptual import Lpips, TeacherFeatures
from genkt.generative.vqgan import VQGAN, build_vqmodel, to_signed
from genkt.io import derive_seed
from genkt.losses.vq import (
    adaptive_weight,
    codebook_perplexity,
    commitment_loss,
    generator_adversarial_loss,
    hinge_discriminator_loss,
)
from genkt.models.load import ModelSpec, load_model
from genkt.training.steps import warmup_cosine
from genkt.types import UserError
from genkt.upstream.upstream_pictures import Upstream


class VQGANTraining:
    """The VQGAN, its discriminator and their optimizers (``genkt.training.steps.Steps``).

    The codebook is kept by vector-quantize-pytorch: k-means of the first batch, moving averages,
    cosine lookup, dead codes restarted from the batch. What is saved at the end is diffusers'
    plain file: with codes of unit norm its Euclidean lookup is the cosine one.

    Loss: L1 + perceptual + commitment + adaptive weight * GAN (Esser et al. 2021, Eq. 4 to 7).
    Differs from the paper: the codes move by averages, not by gradients.

    Args:
        settings: of network and training.  size: side of the pictures.
        upstream: where the pictures of a step come from.
        device: trains there.  seed: of weights and the codebook's draws.

    Raises:
        UserError: the package vector-quantize-pytorch is missing, or settings do not fit.
    """

    def __init__(
        self, settings: VQGANSettings, upstream: Upstream, *, size: int, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.settings, self.upstream, self.seed, self.device = settings, upstream, seed, device
        self.step, self.seconds = 0, 0.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "vqgan weights"))
            self.model: Any = _network(settings, size).to(device)
            self.codebook: Any = _codebook(settings).to(device)
            self.discriminator = _discriminator(settings.gan).to(device)
            self.model.train().requires_grad_(True)
        self.perceptual = perceptual_of(settings.perceptual, device)
        trained = [p for n, p in self.model.named_parameters() if not n.startswith("quantize.")]
        self.optimizer = torch.optim.AdamW(
            trained, lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.99)
        )
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=settings.gan.lr, betas=(0.5, 0.9)
        )
        self.counts = torch.zeros(settings.num_codes, device=device)
        self._batches: Any = iter(())
        self._next = -1

    def run_step(self) -> dict[str, float]:
        """One batch through the autoencoder and, once it has started, the discriminator."""
        settings, gan = self.settings, self.settings.gan
        torch.manual_seed(derive_seed(self.seed, "vqgan step", self.step))
        factor = warmup_cosine(self.step, settings.steps, settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * factor
        pictures = to_signed(self._pictures())
        counts_gan = self.step >= gan.start * settings.steps
        learns_gan = self.step >= (gan.start - gan.warmup) * settings.steps and gan.start < 1
        with self._autocast():
            codes, tokens, commitment = self._quantise(pictures)
            decoded = self.model.decode(codes, force_not_quantize=True).sample
        decoded = decoded.float()
        figures = {"l1": (decoded - pictures).abs().mean(), "commitment": commitment}
        nll = figures["l1"]
        if self.perceptual is not None:
            with self._autocast():
                figures["perceptual"] = self.perceptual(decoded, pictures)
            nll = nll + settings.perceptual.weight * figures["perceptual"]
        loss = nll + settings.commitment * commitment
        if counts_gan:
            figures["adversarial"], figures["gan_weight"] = self._adversarial(nll, decoded)
            loss = loss + gan.weight * figures["gan_weight"] * figures["adversarial"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if learns_gan:
            figures["discriminator"] = self._train_discriminator(pictures, decoded.detach())
        self._count(tokens)
        self.step += 1
        return _measured({"loss": loss, **figures}) | self.codebook_figures()

    def codebook_figures(self) -> dict[str, float]:
        """Codes in use and their perplexity, over a moving window of about 50 steps."""
        alive = (self.counts > self.counts.sum() * 1e-5).sum()
        return _measured({"codes": alive, "perplexity": codebook_perplexity(self.counts)})

    def vqgan(self) -> VQGAN:
        """The network with the codes as they are now.

        Weights are not averaged over the steps: the codes move, and a decoder averaged over old
        codes gives faded colours.
        """
        model = copy.deepcopy(self.model)
        codes = F.normalize(self.codebook.codebook, dim=-1)
        model.quantize.embedding.weight.data.copy_(codes)
        return VQGAN(model)

    def state(self) -> dict[str, Any]:
        """See ``Steps``."""
        return {name: part.state_dict() for name, part in self._parts().items()} | {
            "counts": self.counts
        }

    def restore(self, state: dict[str, Any]) -> None:
        """See ``Steps``."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.counts = state["counts"].to(self.device)

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.model, "codebook": self.codebook,
            "discriminator": self.discriminator, "optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }  # fmt: skip

    def _pictures(self) -> Tensor:
        if self._next != self.step:
            self._batches = self.upstream.iterate(self.step, self.settings.steps)
        self._next = self.step + 1
        images: Tensor = next(self._batches)[0]
        return images.to(self.device, non_blocking=True)

    def _autocast(self) -> Any:
        enabled = self.settings.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _quantise(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Codes [B, D, h, w] with gradients passed straight to the latents, tokens, commitment."""
        latents = self.model.quant_conv(self.model.encoder(pictures)).float()
        unit = F.normalize(latents.permute(0, 2, 3, 1), dim=-1)
        with torch.autocast(self.device.type, enabled=False):
            self.codebook(unit.detach().flatten(1, 2))  # moves the codes
            codes = F.normalize(self.codebook.codebook.detach(), dim=-1)
            tokens = (unit.detach() @ codes.T).argmax(dim=-1)
        chosen = codes[tokens]
        passed = unit + (chosen - unit).detach()
        return passed.permute(0, 3, 1, 2), tokens, commitment_loss(unit, chosen)

    def _adversarial(self, nll: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's side of the GAN, and the weight that makes it as strong as the rest."""
        adversarial = generator_adversarial_loss(self.discriminator(decoded))
        last = self.model.decoder.conv_out.weight
        nll_gradient = torch.autograd.grad(nll, last, retain_graph=True)[0]
        gan_gradient = torch.autograd.grad(adversarial, last, retain_graph=True)[0]
        return adversarial, adaptive_weight(nll_gradient, gan_gradient)

    def _train_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        loss = hinge_discriminator_loss(self.discriminator(real), self.discriminator(fake))
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.discriminator_optimizer.step()
        return loss

    def _count(self, tokens: Tensor) -> None:
        flat = tokens.flatten()  # not bincount, which waits for the device
        seen = torch.zeros_like(self.counts).index_add_(0, flat, self.counts.new_ones(len(flat)))
        self.counts = 0.98 * self.counts + seen


def _measured(figures: dict[str, Tensor]) -> dict[str, float]:
    """Scalars as Python's numbers, for which one waits for the device once."""
    values = torch.stack([value.detach().double() for value in figures.values()])
    return dict(zip(figures, values.tolist(), strict=True))


def given_vqgan(weights: str, size: int) -> VQGAN:
    """The VQGAN of a folder.

    Raises:
        UserError: it is not there, or for pictures of another size.
    """
    loaded = VQGAN.load(weights)
    if loaded.size != size:
        raise UserError(
            f"vqgan.weights: expected a VQGAN for {size} pixels, {weights} is for {loaded.size}"
        )
    return loaded


def _network(settings: VQGANSettings, size: int) -> Any:
    if settings.weights:
        return given_vqgan(settings.weights, size).model
    if size % 2 ** (len(settings.channels) - 1):
        raise UserError(
            f"size: expected a multiple of {2 ** (len(settings.channels) - 1)} for "
            f"{len(settings.channels)} vqgan.channels, got {size}"
        )
    return build_vqmodel(
        num_codes=settings.num_codes,
        code_dim=settings.code_dim,
        channels=settings.channels,
        size=size,
        layers=settings.layers,
    )


def _codebook(settings: VQGANSettings) -> Any:
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError as error:
        raise UserError(
            "genkt prime trains codebooks with vector-quantize-pytorch: pip install 'genkt[train]'"
        ) from error
    return VectorQuantize(
        dim=settings.code_dim,
        codebook_size=settings.num_codes,
        decay=settings.codebook_decay,
        use_cosine_sim=True,
        kmeans_init=True,
        kmeans_iters=10,
        threshold_ema_dead_code=settings.dead_below,
    )


def _discriminator(settings: GanSettings) -> nn.Module:
    from taming.modules.discriminator.model import NLayerDiscriminator, weights_init

    network: nn.Module = NLayerDiscriminator(ndf=settings.channels, n_layers=settings.layers)
    return network.apply(weights_init)


def perceptual_of(settings: PerceptualSettings, device: torch.device) -> nn.Module | None:
    """The distance that the settings name, or None.

    Raises:
        UserError: a model or files that cannot be read.
    """
    if settings.kind == "none":
        return None
    if settings.kind == "teacher":
        spec = ModelSpec(settings.teacher, pretrained=settings.pretrained)
        return TeacherFeatures(load_model(spec)).to(device)
    if not settings.lpips_vgg or not settings.lpips_linear:
        raise UserError(
            "vqgan.perceptual: kind=lpips needs two files, lpips_vgg (torchvision's vgg16) and "
            "lpips_linear (the published channel weights)"
        )
    return Lpips(settings.lpips_vgg, settings.lpips_linear).to(device)
