"""``genkt inspect``: the content of a transfer set or any place of images, and its faults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from genkt.disk import size_text
from genkt.io import contents, derive_seed, home_path, read_json, write_json, write_text
from genkt.readers.scan import left_out_notes, map_in_threads
from genkt.report.kit.families import funnel_text
from genkt.runs.set_card import (
    CARD,
    SHEET,
    card_text,
    class_counts,
    parts_text,
    provenance_text,
    sheet_text,
)
from genkt.transfer_set.composition import TransferSet, read_transfer_set
from genkt.transfer_set.read_set import is_transfer_set, read_header
from genkt.transfer_set.set_files import HEADER, read_records, shard_facts, shard_name
from genkt.types import UserError, counted

FACTS = "inspection.json"
"""The file that ``genkt inspect`` writes last into ``out``; it marks the folder as its own."""

_MEASURED, _MOST_CLASSES = 64, 12


@dataclass(frozen=True)
class Inspection:
    """The result of an inspection.

    Args:
        title: the inspected set or place.
        facts: name of a fact -> its text.
        examples: provenance of a few images.
        faults: what is missing or damaged, one line each, with what to do.
        written: contact sheet and card, old or new.
    """

    title: str
    facts: dict[str, str]
    examples: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    written: tuple[Path, ...] = ()

    def text(self) -> str:
        """What is printed."""
        facts = self.facts | {_NAMES[path.name]: str(path) for path in self.written}
        width = max(map(len, facts), default=0)
        lines = [_plain(self.title), ""]
        lines += [f"  {name:<{width}}  {_plain(text)}" for name, text in facts.items()]
        if self.examples:
            lines += ["", "for example", *(f"  {_plain(example)}" for example in self.examples)]
        return "\n".join(lines)


_NAMES = {SHEET: "sheet", CARD: "card", FACTS: "facts"}


def inspect(
    location: str, *, out: str | Path | None = None, check: bool = False, examples: int = 3
) -> Inspection:
    """Look at a saved transfer set or at any place of images.

    Args:
        location: the set's folder, or whatever ``open_images`` takes.
        out: a folder for contact sheet and card; None: a saved set gets them in its own folder if
        they are missing; other places get none.
        check: read every image, not only manifests and sizes.
        examples: number of records to show.

    Raises:
        UserError: no images, or ``out`` has other content.
    """
    home = _claimed(out)
    root = home_path(location)
    if not is_transfer_set(location):
        return _described(TransferSet.open(location), location, home, check, examples)
    if not (root / HEADER).is_file():
        done = len(list((root / "shards").glob("[0-9]*.json")))
        return Inspection(str(root), {"shards": f"{done} finished"}, faults=(_unfinished(root),))
    faults = _shard_faults(root)
    if faults:
        header = read_header(root / HEADER)
        return Inspection(str(root), _header_facts(header), faults=tuple(faults))
    return _described(read_transfer_set(root), location, home or root, check, examples)


def _claimed(out: str | Path | None) -> Path | None:
    """``out``, if it is new, empty, or was written by an inspection."""
    if out is None:
        return None
    path = home_path(out)
    if path.exists() and not path.is_dir():
        raise UserError(f"out={path}: expected a folder, got a file")
    if contents(path) and not (path / FACTS).is_file():
        raise UserError(f"out={path}: the folder is not empty and holds no inspection of genkt")
    return path


def _described(
    found: TransferSet, location: str, home: Path | None, check: bool, examples: int
) -> Inspection:
    facts = _header_facts(found.header) | _facts(found)
    rows = range(len(found)) if check else _few(found)
    faults = list(_image_faults(found, rows))
    order = sorted(range(len(found)), key=lambda row: derive_seed(0, row, "example"))
    shown = tuple(provenance_text(record) for record in found.read(sorted(order[:examples])))
    title = repr(found) if found.stored else f"{location}: {counted(len(found), 'image')}"
    if faults:
        return Inspection(title, facts, shown, tuple(faults))
    if len(found):
        facts["pictures"] = _sizes(found)
    if home is None:
        return Inspection(title, facts | {"sheet": "not written: give out=FOLDER"}, shown)
    try:
        written = _write(found, location, home, facts)
    except UserError:  # a picture of the sheet is damaged although the few are not: check all
        faults = list(_image_faults(found, range(len(found))))
        return Inspection(title, facts, shown, tuple(faults))
    return Inspection(title, facts, shown, (), written)


def _header_facts(header: Any) -> dict[str, str]:
    """Facts from the header of a saved set; {} for other places."""
    facts = {}
    if "funnel" in header:
        facts["funnel"] = funnel_text(header["funnel"])
    return facts


def _facts(found: TransferSet) -> dict[str, str]:
    facts = {"sources": ", ".join(f"{n:,} {name}" for name, n in found.counts().items())}
    if found.parts:
        facts["parts"] = parts_text(found)
    counts = class_counts(found)
    named = [f"{n:,} {name}" for name, n in counts.items()]
    more = f", ... ({len(named)} in all)" if len(named) > _MOST_CLASSES else ""
    facts["classes"] = ", ".join(named[:_MOST_CLASSES]) + more
    if found.stored is not None:
        files, root = found.header["files"], found.directory
        size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        shards = f"{found.num_shards} shard{'s' if found.num_shards > 1 else ''}"
        places = "tars" if files["container"] == "tar" else "folders"
        facts["disk"] = f"{size_text(size)}, {shards}, {files['format']} in {places}"
    copies = len(found) - len(found.deduplicate())
    if copies:
        facts["copies"] = f"{copies:,} images have the same content as an earlier one"
    if notes := left_out_notes(found.images.skipped):
        facts["files"] = " ".join(notes)
    return facts


def _few(found: TransferSet) -> list[int]:
    """Rows spread over the set that are always checked."""
    few: list[int] = np.linspace(0, len(found) - 1, min(_MEASURED, len(found))).astype(int).tolist()
    return few


def _sizes(found: TransferSet) -> str:
    """Width x height of the pictures, from a few of them."""
    rows = _few(found)
    sizes = sorted({found.images.load(row).size for row in rows})
    (low_width, low_height), (high_width, high_height) = sizes[0], sizes[-1]
    if len(sizes) == 1:
        return f"{low_width} x {low_height} pixels (of {len(rows)} looked at)"
    return (
        f"{low_width} x {low_height} to {high_width} x {high_height} pixels "
        f"(of {len(rows)} looked at)"
    )


def _unfinished(root: Path) -> str:
    command = _command(root)
    return f"{root}: not finished; repeat its command to continue it{command}"


def _command(root: Path) -> str:
    try:
        return f": {_plain(str(read_json(root / 'run.json')['command']))}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _shard_faults(root: Path) -> list[str]:
    """Missing or damaged files of a finished set's shards; image files are only counted."""
    faults = []
    for shard in range(read_header(root / HEADER)["num_shards"]):
        try:
            records = read_records(root, shard)
            expected = (shard_facts(root, shard) or {})["files"].get("tar_bytes")
            _check_files(root, shard, len(records), expected)
        except UserError as error:
            faults.append(f"{error}; {_remedy(root, shard)}")
    return faults


def _check_files(root: Path, shard: int, count: int, tar_bytes: int | None) -> None:
    home = root / "images" / shard_name(shard)
    if tar_bytes is not None:
        tar = home.with_suffix(".tar")
        there = tar.stat().st_size if tar.is_file() else 0
        if there != tar_bytes:
            raise UserError(f"{tar}: expected {tar_bytes} bytes, found {there}")
        return
    there = sum(1 for _ in home.iterdir()) if home.is_dir() else 0
    if there < count:
        raise UserError(f"{home}: expected {count} images, found {there}")


def _remedy(root: Path, shard: int) -> str:
    return (
        f"to make the shard again remove {HEADER} and shards/{shard_name(shard)}.json there and "
        f"repeat the command that made the set{_command(root)}"
    )


def _image_faults(found: TransferSet, rows: Sequence[int]) -> Iterator[str]:
    """Read some images; the first fault of each shard, or each image of another place."""

    def fault(row: int) -> str:
        try:
            found.images.load(row)
        except UserError as error:
            return str(error)
        return ""

    told: set[int] = set()
    starts = found.stored.starts if found.stored is not None else None
    faults = map_in_threads(fault, rows, description="checking images")
    for row, text in zip(rows, faults, strict=True):
        if not text:
            continue
        if starts is None:
            yield text
            continue
        shard = int(np.searchsorted(starts, row, side="right")) - 1
        if shard not in told:
            told.add(shard)
            yield f"{text}; {_remedy(found.directory, shard)}"


def _write(
    found: TransferSet, location: str, home: Path, facts: dict[str, str]
) -> tuple[Path, ...]:
    """Write contact sheet and card; existing ones are kept."""
    own = found.stored is not None and home == found.directory
    sheet, card, more, texts = home / SHEET, home / CARD, list[Path](), dict[Path, str]()
    if not (own and sheet.is_file()):
        title = Path(location).name or location
        texts[sheet] = sheet_text(found, title, metadata.version("genkt"))
    if not (own and card.is_file()):
        texts[card] = card_text(found, location, facts)
    if not own:  # first: it marks the folder as an inspection's, even if this process is killed
        more.append(write_json(home / FACTS, {"location": location, **facts}))
    for path, text in texts.items():
        write_text(path, text)
    return sheet, card, *more


def _plain(text: str) -> str:
    """An untrusted text without control characters and line breaks."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
