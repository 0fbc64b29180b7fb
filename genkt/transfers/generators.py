"""The generators of a run, loaded when first asked for."""

from __future__ import annotations

import torch

from genkt.generative.generator import Generator, load_generator


class Generators:
    """Generators on one device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._loaded: dict[str, Generator] = {}

    def load(self, name: str) -> Generator:
        """A generator by its folder or ``genkt:`` name; loaded once.

        Raises:
            UserError: no such generator.
        """
        if name not in self._loaded:
            self._loaded[name] = load_generator(name, device=self._device)
        return self._loaded[name]

    def release(self) -> None:
        """Free their memory; they are not needed once training has begun."""
        self._loaded.clear()
