"""README.md of a synthesized set: what it is, from what, how, and how to make or read it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_WHAT = {
    "digg": "completions of masked images (DIGG: a part of each source is hidden, and a latent "
    "transformer draws a new one); they carry no labels",
    "irf": "reconstructions (IRF, stage 2: each source once, through a VQGAN), with the labels of "
    "their sources",
    "deep_inversion": "pictures that were optimised until a trained classifier took them for its "
    "classes (DeepInversion); no image was used",
}

_CARD = """# Transfer set: {kept} synthesized images

{kept} {what}.

| asked | made | kept | left out |
|---|---|---|---|
| {asked} | {made} | {kept} | {dropped} |

- **Sources**: {sources}
- **Generator**: {generator}
- **Masks**: {masks}
- **Sampling**: {sampling}
- **Filters**: {filters}
- **Seed**: {seed}; the same command gives the same bytes on the same kind of device, {whatever}.
{diversity}
```
{command}
```

## Reading it
```python
import genkt

images = genkt.TransferSet.open({out!r})
images.images.load(0)   # a Pillow image; images.record(0) says where it comes from
```
`manifest/*.jsonl` has one line per image: `id`, `file`, `label` (-1: none), `parent` (the source's
id) and `detail` (mask, seed, sample). {container}
`contact_sheet.html` shows the first rows. To train a student on it:
`genkt transfer transfer_set=saved transfer_set.root={out}`.

## Decoding it again
{decoding}

## Licence
The images are derived from the sources and from what the generator was trained on: the licences of
both apply, and genkt grants none. Synthesized images may repeat parts of their sources (the visible
ones always): handle them like their sources if these show people or anything private.
"""

_EXACT = "whatever the\n  batch size, the number of processes or an interruption"
_INEXACT = "with the\n  same batch size (tokens were drawn in bfloat16)"

_FROM_TOKENS = """`tokens/*.safetensors` holds the `tokens` that each image was decoded from, which
of them were drawn (`hidden`), and the `seeds`. The same images, byte for byte:

```python
import genkt

for record, data in genkt.redecode({out!r}, genkt.load_generator({name!r})):
    ...  # data is the file of the image
```"""


def card_text(header: Mapping[str, Any], command: str, out: str) -> str:
    """The card in Markdown.

    Args:
        header: what ``transfer_set.json`` holds.  command: how the set was made.
        out: its folder, as the user wrote it.
    """
    settings, funnel, generator = header["settings"], header["funnel"], header["generator"]
    method, files = settings["synthesis"], header["files"]
    dropped = ", ".join(f"{count} {why}" for why, count in funnel["dropped"].items())
    diversity = "; ".join(f"{k.replace('_', ' ')} {v:.4g}" for k, v in header["diversity"].items())
    in_bfloat16 = method.get("sampling", {}).get("precision") == "bfloat16"
    decoding = "The set has no tokens; its command makes it again."
    if header["has_tokens"] and generator:
        decoding = _FROM_TOKENS.format(out=out, name=generator["name"])
    return _CARD.format(
        what=_WHAT[method["name"]],
        asked=funnel["asked"],
        made=funnel["made"],
        kept=funnel["kept"],
        dropped=dropped or "0",
        sources=_sources(header),
        generator=_model(generator),
        masks=_plain(method.get("masks")),
        sampling=_plain(method.get("sampling") or method.get("inversion")),
        filters=_filters(header),
        seed=settings["seed"],
        whatever=_INEXACT if in_bfloat16 else _EXACT,
        diversity=f"- **Diversity**: {diversity}\n" if diversity else "",
        command=" ".join(command.splitlines()),
        out=out,
        container="Images are in WebDataset tars, `images/*.tar`."
        if files["container"] == "tar"
        else "Images are in `images/`.",
        decoding=decoding,
    )


def _sources(header: Mapping[str, Any]) -> str:
    sources = header["sources"]
    if header["settings"]["synthesis"]["name"] == "deep_inversion":
        return f"none; {sources['num_images']} classes of the teacher {_model(header['teacher'])}"
    classes = len(header["classes"])
    unused = sources["num_images"] - sources["num_used"]
    return (
        f"{sources['num_used']} images"
        + (f" (of {sources['num_images']}, mixed by the seed)" if unused else "")
        + (f" of {classes} classes" if classes else "")
        + f", fingerprint `{sources['fingerprint']}`"
    )


def _model(model: Mapping[str, Any] | None) -> str:
    return f"{model['name']}, fingerprint `{model['fingerprint']}`" if model else "none"


def _filters(header: Mapping[str, Any]) -> str:
    on = {k: v for k, v in header["settings"]["filters"].items() if v not in (None, False)}
    return f"{_plain(on)} by teacher {_model(header['teacher'])}" if on else "none"


def _plain(values: Any) -> str:
    if not values:
        return "none"
    return ", ".join(f"{key} {json.dumps(value)}" for key, value in values.items())
