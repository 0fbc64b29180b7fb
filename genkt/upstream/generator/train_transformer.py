"""Priming, second half: the latent transformer on the tokens of upstream pictures."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from genkt.config.prime_settings import TransformerSettings
from genkt.generative.latent_transformer import (
    LatentTransformer,
    TransformerConfig,
    code_histograms,
)
from genkt.generative.vqgan import VQGAN
from genkt.io import derive_seed
from genkt.training.averages import average_lists
from genkt.training.steps import warmup_cosine
from genkt.types import UserError
from genkt.upstream.upstream_pictures import Upstream

_CLUSTER_PICTURES = 4096


class TransformerTraining:
    """The GPT and its optimizer (``genkt.training.steps.Steps``).

    Args:
        settings: of network and training.  vqgan: frozen; makes the tokens.
        upstream: where the pictures of a step come from.
        device: trains there.  seed: of weights, scans and dropout.

    Raises:
        UserError: settings that do not fit the upstream data.
    """

    def __init__(
        self, settings: TransformerSettings, vqgan: VQGAN, upstream: Upstream, *, seed: int,
        device: torch.device,
    ) -> None:  # fmt: skip
        self.settings, self.upstream, self.seed, self.device = settings, upstream, seed, device
        self.vqgan = vqgan.to(device)
        self.step, self.seconds = 0, 0.0
        num_conditions = {
            "none": 0, "class": len(upstream.classes), "image": settings.num_clusters,
        }[settings.condition]  # fmt: skip
        if settings.condition == "class" and not num_conditions:
            raise UserError("transformer.condition=class: the upstream pictures have no classes")
        config = TransformerConfig.of(
            vqgan.num_codes, vqgan.grid, num_layers=settings.layers, num_heads=settings.heads,
            width=settings.width, scans=settings.scans, num_conditions=num_conditions,
            condition=settings.condition,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, "transformer weights"))
            self.transformer = LatentTransformer.build(config, dropout=settings.dropout)
        self.transformer.to(device).train()
        if settings.condition == "image":
            self.transformer.centres.copy_(self._centres())
        self.average = AveragedModel(self.transformer.gpt, multi_avg_fn=average_lists(settings.ema))
        self.optimizer = torch.optim.AdamW(
            self.transformer.gpt.parameters(), lr=settings.lr,
            weight_decay=settings.weight_decay, betas=(0.9, 0.95),
        )  # fmt: skip
        self._batches: Any = iter(())
        self._next = -1

    def run_step(self) -> dict[str, float]:
        """One batch, each picture read in a scan drawn for it."""
        settings = self.settings
        torch.manual_seed(derive_seed(self.seed, "transformer step", self.step))
        factor = warmup_cosine(self.step, settings.steps, settings.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.lr * factor
        images, labels = self._pictures()
        tokens = self.vqgan.encode(images)
        scans = torch.randint(len(settings.scans), (len(tokens),))
        scans = scans.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            loss = negative_log_likelihood(self.transformer, tokens, scans, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.transformer.gpt.parameters(), 1.0)
        self.optimizer.step()
        self.average.update_parameters(self.transformer.gpt)
        self.step += 1
        return {"loss": loss.item()}

    def averaged(self) -> LatentTransformer:
        """The averaged network, frozen."""
        gpt = copy.deepcopy(self.average.module)
        found = LatentTransformer(gpt, self.transformer.config)
        found.centres.copy_(self.transformer.centres)
        return found.eval().requires_grad_(False)

    def state(self) -> dict[str, Any]:
        """See ``Steps``."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def restore(self, state: dict[str, Any]) -> None:
        """See ``Steps``."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "transformer": self.transformer, "average": self.average, "optimizer": self.optimizer,
        }  # fmt: skip

    def _pictures(self) -> tuple[Tensor, Tensor]:
        if self._next != self.step:
            self._batches = self.upstream.iterate(self.step, self.settings.steps)
        self._next = self.step + 1
        images, labels = next(self._batches)
        there = self.device
        return images.to(there, non_blocking=True), labels.to(there, non_blocking=True)

    def _centres(self) -> Tensor:
        """Centres of the upstream pictures' code histograms, by k-means from the seed."""
        from sklearn.cluster import KMeans

        images = self.upstream.sample(_CLUSTER_PICTURES, derive_seed(self.seed, "clusters"))
        tokens = self.vqgan.encode(images).cpu()
        rows = code_histograms(tokens, self.vqgan.num_codes).numpy()
        if len(rows) < self.settings.num_clusters:
            raise UserError(
                f"transformer.num_clusters: expected at most {len(rows)}, as many as there are "
                f"pictures, got {self.settings.num_clusters}"
            )
        means = KMeans(self.settings.num_clusters, random_state=self.seed % 2**32, n_init=1)
        return torch.from_numpy(means.fit(rows).cluster_centers_).float()


def negative_log_likelihood(
    transformer: LatentTransformer, tokens: Tensor, scans: Tensor, labels: Tensor
) -> Tensor:
    """Mean over tokens, in nats, of token grids [B, h, w] read in scans [B].

    Args:
        labels: [B] classes, read only where the network is conditioned on them.

    Raises:
        UserError: an unlabelled picture for a class-conditional network.
    """
    order = transformer.orders.to(tokens.device, non_blocking=True)[scans]
    sequences = tokens.flatten(1).gather(1, order)
    conditions = transformer.conditions_of(tokens, labels)
    start = transformer.start_tokens(scans, conditions)
    inputs = torch.cat([start[:, None], sequences[:, :-1]], dim=1)
    logits = transformer.gpt(inputs)[0][..., : transformer.num_codes]
    return F.cross_entropy(logits.flatten(0, 1).float(), sequences.flatten())
