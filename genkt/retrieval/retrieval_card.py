"""README.md of a retrieved set: its gallery, queries, encoders, and how to make or read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """# Transfer set: {kept} retrieved images

{kept} images of a gallery of {gallery_size}, {what}. They carry no labels.

| asked | found | kept | left out |
|---|---|---|---|
| {asked} | {found} | {kept} | {dropped} |

- **Gallery**: {gallery}
- **Queries**: {queries}
- **Encoders**: {encoders}
- **Strategy**: {strategy}
- **Near copies**: {duplicates}
- **Images of the data**: {leaks}
- **Seed**: {seed}; the same command gives the same bytes, whatever the number of threads or
  processes, the executor, or an interruption.

```
{command}
```

## Reading it
```python
import genkt

images = genkt.TransferSet.open({out!r})
images.images.load(0)   # a Pillow image; images.record(0) tells where it comes from
```
`manifest/*.jsonl` has one line per image: `id`, `file`, `parent` (the id of the query) and `detail`
(`image`: its id in the gallery, `score`, `rank` with its query{crop}). {container}
`contact_sheet.html` shows queries and what they found. To train a student on it:
`genkt transfer transfer_set=saved transfer_set.root={out}`.

## Licence
The images are those of the gallery: its licences apply, and genkt grants none.
"""

_WHAT = {
    "query_balanced": "the nearest ones of every query in equal numbers",
    "best_matches": "those with the highest score for any query",
    "random": "drawn at random",
    "text": "the nearest ones of every text in equal numbers",
}


def card_text(header: Mapping[str, Any], command: str, out: str) -> str:
    """The card in Markdown.

    Args:
        header: what ``transfer_set.json`` holds.  command: how the set was made.
        out: its folder, as the user wrote it.
    """
    settings, funnel = header["settings"], header["funnel"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in funnel["dropped"].items())
    encoder = settings["encoder"]
    crops = settings["crops"] if settings["crops"]["per_image"] else None
    return _CARD.format(
        kept=funnel["kept"],
        asked=funnel["asked"],
        found=funnel["found"],
        dropped=dropped or "0",
        gallery_size=header["gallery"]["num_images"],
        what=_WHAT[settings["strategy"]],
        gallery=_gallery(header["gallery"], crops),
        queries=f"{header['queries']['num_queries']}, "
        f"fingerprint `{header['queries']['fingerprint']}`",
        encoders="; ".join(
            f"{each['name']} ({100 * each['share']:.0f} % of the score), fingerprint "
            f"`{each['fingerprint']}`"
            for each in header["encoders"]
        ),
        strategy=settings["strategy"] + _scores(header),
        duplicates="not looked for"
        if encoder["duplicates"] is None
        else f"similarity of at least {encoder['duplicates']:g}, the first one stays",
        leaks=leaks_text(header),
        seed=settings["seed"],
        command=" ".join(command.splitlines()),
        out=out,
        crop="; `crop`: its number, box and distortions" if crops else "",
        container="Images are in WebDataset tars, `images/*.tar`."
        if header["files"]["container"] == "tar"
        else "Images are in `images/`.",
    )


def _gallery(gallery: Mapping[str, Any], crops: Mapping[str, Any] | None) -> str:
    text = f"{gallery['location']}, {gallery['num_images']} images"
    if gallery["num_unreadable"]:
        text += f" ({gallery['num_unreadable']} could not be read)"
    if crops:
        low, high = crops["scale"]
        text += (
            f", {crops['per_image']} crops of each ({low:g} to {high:g} of the area, "
            f"{crops['num_ops']} distortions of strength {crops['magnitude']}, seed "
            f"{crops['seed']})"
        )
    return f"{text}, fingerprint `{gallery['fingerprint']}`"


def _scores(header: Mapping[str, Any]) -> str:
    if not header["scores"]:
        return ""
    spread = ", ".join(f"{name} {value:.3f}" for name, value in header["scores"].items())
    return f"; ranks up to {header['k']}, scores {spread}"


def _thresholds(header: Mapping[str, Any]) -> list[float | None]:
    leaks = header["settings"]["encoder"]["leaks"]
    return list(leaks) if isinstance(leaks, list) else [leaks]


def leaks_text(header: Mapping[str, Any]) -> str:
    """What became of retrieved images that may be images of the data."""
    suspects, decided = header["num_suspects"], header["decided"]
    if not header["num_reference"]:
        return "not looked for: the gallery is drawn"
    if all(each is None for each in _thresholds(header)):
        return "identical files left out, others not looked for"
    if not suspects:
        return "none is nearly an image of the data"
    who = {"leak": "all left out unseen", "keep": "all kept unseen"}.get(decided, "reviewed by eye")
    return f"{suspects} suspects, {who}"
