"""The card and sheets of a primed generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from genkt.generative.generator import SHIPPED, Generator
from genkt.io import write_json, write_text
from genkt.report.kit.grid import save_grid
from genkt.upstream.generator.generator_figures import built_in_tests
from genkt.upstream.generator.generator_sheets import completion_sheet, reconstruction_sheet
from genkt.upstream.upstream_pictures import GLYPHS, GlyphUpstream, Upstream

_ROWS = {
    "psnr": ("PSNR of reconstructions, dB", 1),
    "fd_floor": ("Fréchet distance, upstream to other upstream pictures", 4),
    "fd": ("Fréchet distance, upstream to other upstream pictures re-represented", 4),
    "fd_original": ("Fréchet distance to upstream, as they are", 4),
    "fd_represented": ("Fréchet distance to upstream, re-represented", 4),
    "held_out_codes": ("codes in use", 0),
    "held_out_perplexity": ("perplexity of the codes", 0),
    "nats_down": ("nats per token, reading down", 2),
    "nats_up": ("nats per token, reading up", 2),
    "nats_right": ("nats per token, reading right", 2),
    "nats_left": ("nats per token, reading left", 2),
}


def write_card(
    home: Path, generator: Generator, upstream: Upstream, figures: dict[str, Any]
) -> None:
    """Write ``README.md``, ``figures.json`` and two sheets beside the networks.

    Args:
        home: the generator's folder.
        figures: "training" (what was run, where, how long) and a dict per set of pictures.
    """
    plain, drawn = _shown(upstream, generator.size)
    save_grid(home / "reconstructions.png", _reconstructions(generator, plain))
    can_complete = generator.completer is not None and figures["training"]["condition"] != "class"
    if can_complete:
        sides = ("bottom", "right")
        save_grid(home / "completions.png", completion_sheet(generator, drawn, sides=sides))
    write_json(home / "figures.json", figures)
    write_text(home / "README.md", card_text(figures))


def card_text(figures: dict[str, Any]) -> str:
    """The model card in Markdown."""
    training = figures["training"]
    sets = [name for name in figures if name not in ("training", "generator")]
    table = [f"| | {' | '.join(name.replace('_', ' ') for name in sets)} |"]
    table.append("|---|" + "---|" * len(sets))
    for key, (title, digits) in _ROWS.items():
        if any(key in figures[name] for name in sets):
            cells = [_cell(figures[name].get(key), digits) for name in sets]
            table.append(f"| {title} | {' | '.join(cells)} |")
    drawn = "" if not training["transformer_parameters"] else _COMPLETIONS
    about = _GLYPHS if training["upstream"] == GLYPHS else f"Upstream: `{training['upstream']}`."
    held_out, shown = "pictures that were not trained on", "Downstream pictures"
    where = f"{SHIPPED}{training['name']}"
    if training["upstream"] != GLYPHS:
        held_out = "whole pictures of the folders that crops were trained on"
        shown, where = "Upstream pictures", "FOLDER of this card"
    return _CARD.format(
        table="\n".join(table), drawn=drawn, about=about, held_out=held_out, shown=shown,
        where=where, **training,
    )  # fmt: skip


def _cell(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _shown(upstream: Upstream, size: int) -> tuple[list[Tensor], Tensor]:
    """Pictures for the reconstructions, a list per kind, and for the completions."""
    if not isinstance(upstream, GlyphUpstream):
        sample = upstream.sample(24, 4)
        return [sample], sample[:6]
    tests = [images for _, images, _ in built_in_tests(size)]
    return [images[:24] for images in tests], torch.cat([images[30:34] for images in tests])


def _reconstructions(generator: Generator, kinds: list[Tensor]) -> Image.Image:
    return reconstruction_sheet(generator.vqgan, torch.cat(kinds))


_COMPLETIONS = """
![Completions](completions.png)

Lower, then right halves drawn anew: source, what the generator saw, eight completions.
"""

_GLYPHS = """Upstream: glyphs of matplotlib's fonts and hand-written stroke forms, re-stroked,
warped, blurred and inverted at random (`genkt/data/builtin/glyphs.py`), half of them on crops of
photographs that scikit-image and scikit-learn ship (`UPSTREAM_PHOTOS`). **No real digit and none
of the downstream photographs was seen.** The features of the Fréchet distances are those of
`digits_teacher`, which was trained on the same glyphs."""

_CARD = """---
license: apache-2.0
library_name: genkt
tags: [image-generation, vqgan]
---
# {name}

A VQGAN (diffusers' `VQModel`, {vqgan_parameters:.2f} M parameters, {size} x {size} pixels to
{grid[0]} x {grid[1]} tokens of {num_codes} codes) and a latent transformer (the layout of taming's
`GPT`, {transformer_parameters:.2f} M parameters). It re-represents pictures (IRF) and completes
masked ones (DIGG).

```python
import genkt

generator = genkt.load_generator("{where}")
generator.reconstruct(images)
generator.complete(images, masks, num_samples=8, seed=0)
```

![Reconstructions](reconstructions.png)

{shown} above their reconstructions.
{drawn}
## Figures

{table}

Fréchet distances compare sets of {num_measured} pictures in the features of `{features}`; the
upstream column holds {held_out}. `figures.json` holds every number.

## Training

`{command}`: {vqgan_steps} steps of {vqgan_batch} pictures for the VQGAN, {transformer_steps} of
{transformer_batch} for the transformer, seed {seed}; {vqgan_seconds} + {transformer_seconds}
seconds on {hardware} (shared), torch {torch}, {date}.
Perceptual loss: {perceptual}.

{about}
"""
