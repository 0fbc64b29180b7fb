"""Contact sheet and card of any transfer set, from its images and records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from genkt.data.images import ImageSet
from genkt.report.kit.families import Family, SheetPage, funnel_text, sheet_page, thumbnail
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.parts import shares_text
from genkt.transfer_set.set_files import Record

ROWS, PICTURES = 36, 8

SHEET, CARD = "contact_sheet.html", "README.md"
"""The file names, the same in every set's folder."""


def families_of(
    found: TransferSet, originals: ImageSet | None = None, *, rows: int = ROWS, each: int = PICTURES
) -> list[Family]:
    """The first families of a set in its order: images of one source, query or class.

    Args:
        originals: images that include the sources and queries, if available; they come first in
        each strip. rows, each: limits of families, and of pictures per family.
    """
    members: dict[tuple[str, str], list[tuple[int, Record]]] = {}
    loose: Counter[str] = Counter()
    for row, record in enumerate(found.records()):
        title = _family(found, record)
        if not title:  # no source, query or class: strips of neighbouring images
            title = f"{record.source}, no label ({loose[record.source] // each + 1})"
            loose[record.source] += 1
        key = (
            record.source,
            title,
        )  # images found by an image and images made from it are two families
        if key in members or len(members) < rows:
            family = members.setdefault(key, [])
            if len(family) < each:
                family.append((row, record))
    places = {each: place for place, each in enumerate(originals.ids)} if originals else {}
    shown = []
    for (_, title), family in members.items():
        parent = family[0][1].parent
        given = [originals.load(places[parent])] if originals and parent in places else []
        leading = tuple(thumbnail(picture) for picture in given)
        pictures = tuple(thumbnail(found.images.load(row)) for row, _ in family)
        scores = tuple(_score(record) for _, record in family)
        captions = scores if any(scores) else ()
        shown.append(Family(title, _about(family[0][1]), leading, pictures, captions))
    return shown


def _family(found: TransferSet, record: Record) -> str:
    if record.parent is not None:
        return _path(record.parent)
    return found.images.classes[record.label] if record.label >= 0 else ""


def _score(record: Record) -> str:
    score = (record.detail or {}).get("score")
    return f"{score:.3f}" if isinstance(score, float) else ""


def _about(record: Record) -> str:
    how = {"synthesized": "made from it", "retrieved": "found by it"} if record.parent else {}
    return f"{how.get(record.source, record.source)}, {record.file}"


def provenance_text(record: Record) -> str:
    """Where an image of a set comes from, in one line."""
    about = dict(record.detail or {})
    words = [str(about.pop("method", record.source))]
    if record.parent:
        words.append(f"of {_path(record.parent)}")
    words += [f"{key} {value}" for key, value in about.items() if not isinstance(value, dict)]
    return ", ".join([*words, record.file])


def _path(sample_id: str) -> str:
    return sample_id.rpartition("#")[0] or sample_id


def class_counts(found: TransferSet) -> dict[str, int]:
    """Images by class name, the unlabelled ones last."""
    counts = {name: n for name, n in found.images.class_counts().items() if n}
    without = len(found) - found.images.num_labelled
    return counts | ({"no label": without} if without else {})


def sheet_text(
    found: TransferSet, title: str, version: str, originals: ImageSet | None = None
) -> str:
    """The sheet as one HTML document; see ``families_of``.

    Args:
        title: where the set is, or what the user calls it.
    """
    families, header = families_of(found, originals), found.header
    sources = [(f"{n:,}", name) for name, n in found.counts().items()]
    classes = len(found.images.classes)
    return sheet_page(
        SheetPage(
            kind=title,
            headline=(f"{len(found):,} images", _origin(found)),
            facts=[*sources, *([(f"{classes:,}", "classes")] if classes else [])],
            funnel=header.get("funnel", {}),
            section="By source, query or class",
            note=f"The first {len(families)} in the order of the set, not chosen by eye.",
            families=families,
            command=str(header.get("command", "")),
            version=version,
            footer="Where each image comes from: manifest/, one line per image."
            if found.stored
            else "The images stayed where they are.",
        )
    )


def _origin(found: TransferSet) -> str:
    sources = list(found.counts())
    return f", all {sources[0]}" if len(sources) == 1 else f": {', '.join(sources)}"


_CARD = """# {title}

{count} images: {sources}.

{facts}
## Reading it
```python
import genkt

found = genkt.TransferSet.open({code})
found.images.load(0)   # a Pillow image; found.record(0) says where it comes from
```
{layout}`contact_sheet.html` shows some of the images. To train a student on them:
`genkt transfer transfer_set={kind} transfer_set.root={where}`.

## Licence
The images keep the licences of their sources; genkt grants none.
"""

_LAYOUT = """`manifest/*.jsonl` has one line per image: `id`, `file`, `label` (-1: none), `source`
(real, retrieved, synthesized), `parent` (what it was made from, or the query that found it) and
`detail` (score, crop, mask, seed; `original`: its first id).
"""


def card_text(found: TransferSet, where: str, facts: Mapping[str, Any]) -> str:
    """The card in Markdown.

    Args:
        where: the set's folder or place, as the user wrote it.
        facts: lines of the inspection: name and text.
    """
    saved = found.stored is not None
    lines = "".join(f"- **{name}**: {inline(str(text))}\n" for name, text in facts.items())
    return _CARD.format(
        title=f"Transfer set: {len(found)} images" if saved else f"Images of {inline(where)}",
        count=f"{len(found):,}",
        sources=", ".join(f"{n:,} {name}" for name, n in found.counts().items()),
        facts=lines,
        where=inline(where),
        code=repr(where),
        layout=_LAYOUT if saved else "",
        kind="saved" if saved else "folder",
    )


def inline(text: str) -> str:
    """An untrusted text on one line, without markup."""
    plain = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return plain.replace("<", "&lt;").replace("`", "'")


def parts_text(found: TransferSet) -> str:
    """The parts of a mix with their shares, "" if there are none."""
    return shares_text(found.parts, found.part_counts()) if found.parts else ""


def describe(found: TransferSet) -> str:
    """The text printed for a finished set: counts, places of its files, code that opens it."""
    root = found.directory
    return "\n".join(
        [
            funnel_text(found.header["funnel"]),
            "",
            f"set:   {root}",
            f"sheet: {root / SHEET}",
            f"card:  {root / CARD}",
            "",
            f"import genkt; found = genkt.TransferSet.open({str(root)!r})",
            "found.images.load(0).show(); print(found.record(0))",
        ]
    )
