"""Data sets of Hugging Face's ``datasets``, from the hub or from disk (an optional extra)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genkt.data.class_names import CLASS_COLUMNS, class_name, plain_key, sorted_classes
from genkt.data.images import ImageSet, LostImage, Skipped, content_hash, decode
from genkt.io import did_you_mean, home_path
from genkt.readers.file_index import (
    WORTH,
    examine_bytes,
    forget,
    index_path,
    pack_hashes,
    read_columns,
    unpack_hashes,
    write_columns,
)
from genkt.readers.scan import check_skipped, map_in_threads
from genkt.types import UNLABELLED, UserError, counted

logger = logging.getLogger(__name__)


def read_huggingface(
    name: str,
    split: str | None = None,
    *,
    max_skipped: int | float = 0.05,
    num_threads: int | None = None,
    progress: bool | None = None,
) -> ImageSet:
    """A data set's pictures, with the labels of its ``ClassLabel`` column where it has one.

    The picture column has type ``Image`` (of several, the one named image or img). The label column
    is the one named label, else the first ``ClassLabel``, else a column of texts or whole numbers
    with a name from ``CLASS_COLUMNS``. Ids are ``NAME/SPLIT/row#content-hash``; pictures stay in
    the Arrow files until they are loaded.

    Args:
        name: a name on the hub, or the folder of ``save_to_disk``.
        split: e.g. "train" or "train[:10%]"; may be left out if there is only one.
        max_skipped, num_threads, progress: as for ``read_folder``.

    Raises:
        UserError: the extra is not installed, no data set, split or picture is found, or more
        pictures are unusable than allowed.
    """
    dataset = _load(name, split)
    import datasets  # installed, as the data set was loaded

    column = _picture_column(name, dataset.features)
    pictures = dataset.cast_column(column, datasets.Image(decode=False)).select_columns([column])
    classes, labels = _labels(name, dataset)
    prefix = "/".join(filter(None, [Path(name).name if Path(name).exists() else name, split]))
    opener = _Opener(pictures, column, dataset._fingerprint)
    hashes = _known_hashes(opener.key, len(dataset))
    unknown = [row for row, digest in enumerate(hashes) if not digest]
    results = map_in_threads(
        partial(_examine, opener), unknown, description=f"reading {name}",
        num_threads=num_threads, progress=progress,
    )  # fmt: skip
    skipped: list[Skipped] = []
    for row, (digest, reason) in zip(unknown, results, strict=True):
        hashes[row] = digest
        if reason:
            skipped.append(Skipped(f"{prefix}/{row}", reason))
    if len(unknown) - len(skipped) >= WORTH:
        write_columns(index_path("hf", opener.key), {"hashes": pack_hashes(hashes)})
    check_skipped(skipped, len(dataset), max_skipped, prefix)
    rows = [row for row, digest in enumerate(hashes) if digest]
    if not rows:
        raise UserError(f"{prefix}: no usable picture")
    ids = [f"{prefix}/{row}#{hashes[row]}" for row in rows]
    return ImageSet(ids, labels[rows], classes, rows, opener, skipped)


@dataclass(frozen=True)
class _Opener:
    pictures: Any = field(repr=False)
    column: str
    key: str

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        data = self.read(item)
        if content_hash(data) != sample_id.rpartition("#")[2]:
            forget(index_path("hf", self.key))
            raise LostImage(sample_id, "the data set changed since it was read", "; start again")
        return decode(data)

    def read(self, row: int) -> bytes:
        """The encoded bytes of a picture, from the table or from the file that it names."""
        value = self.pictures[row][self.column] or {}
        if value.get("bytes") is not None:
            return bytes(value["bytes"])
        if not value.get("path"):
            return b""
        try:
            return Path(value["path"]).read_bytes()
        except OSError as error:
            raise LostImage(value["path"], str(error.strerror)) from error


def _examine(opener: _Opener, row: int) -> tuple[str, str]:
    try:
        return examine_bytes(opener.read(row))
    except UserError as error:
        return "", str(error)


def _known_hashes(key: str, count: int) -> list[str]:
    columns = read_columns(index_path("hf", key))
    return [""] * count if columns is None else unpack_hashes(columns["hashes"])


def _load(name: str, split: str | None) -> Any:
    """The one split that is meant.

    Raises:
        UserError: no data set, no such split, or several splits and none named.
    """
    try:
        import datasets
    except ImportError as error:
        raise UserError('hf: needs datasets: pip install "genkt[huggingface]"') from error
    path = home_path(name)
    saved = any((path / file).is_file() for file in ("state.json", "dataset_dict.json"))
    try:
        if saved:
            found = datasets.load_from_disk(str(path))
        else:
            found = datasets.load_dataset(str(path) if path.exists() else name, split=split)
    except Exception as error:  # the library raises anything from ValueError to ConnectionError
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"hf:{name}: cannot be loaded: {reason}") from error
    if not isinstance(found, dict):
        if saved and split:
            raise UserError(
                f"hf:{name}: expected no split name, as one split without a name is saved "
                f"there, got '{split}'"
            )
        return found
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split not in found:
        came = f"no split '{split}'.{did_you_mean(split, found)}" if split else "several splits."
        raise UserError(f"hf:{name}: {came} Expected hf:{name}:SPLIT, one of {', '.join(found)}")
    return found[split]


def _picture_column(name: str, features: Any) -> str:
    import datasets

    columns = [each for each, kind in features.items() if isinstance(kind, datasets.Image)]
    named = [each for each in columns if each in ("image", "img")]
    if len(columns) == 1 or named:
        return str((named or columns)[0])
    raise UserError.of(
        f"hf:{name}",
        "a picture column (type Image), or one of several named image",
        ", ".join(f"{each} ({type(kind).__name__})" for each, kind in features.items()),
    )


def _labels(name: str, dataset: Any) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """(class names, [N] labels) of the label column; no classes and -1 where there is none."""
    import datasets

    features = dataset.features
    columns = [each for each, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not columns:
        return _named_labels(name, dataset)
    column = "label" if "label" in columns else columns[0]
    if len(columns) > 1:
        logger.warning("labels are those of column %s (of %s)", column, ", ".join(columns))
    values = dataset.select_columns([column])[column][:]
    labels = np.array([UNLABELLED if value is None else value for value in values], np.int64)
    return tuple(features[column].names), labels


def _named_labels(name: str, dataset: Any) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The same for a column of names or numbers whose name is one of ``CLASS_COLUMNS``."""
    import datasets

    plain = {plain_key(column): column for column in reversed(dataset.column_names)}
    known = [plain[key] for key in CLASS_COLUMNS if key in plain]
    kinds = dataset.features
    column = next((each for each in known if isinstance(kinds[each], datasets.Value)), None)
    if column is None:
        others = [each for each, kind in kinds.items() if not isinstance(kind, datasets.Image)]
        if others:
            shown = ", ".join(f"{each} ({type(kinds[each]).__name__})" for each in others[:5])
            logger.warning(
                "hf:%s: no labels, as none of these columns holds classes: %s", name, shown
            )
        return (), np.full(len(dataset), UNLABELLED)
    names, faults = [], []
    for value in dataset.select_columns([column])[column][:]:
        try:
            names.append(class_name(value))
        except ValueError as error:
            names.append("")
            faults.append(str(error))
    classes = sorted_classes(filter(None, names))
    logger.warning(
        "hf:%s: labels are those of column %s, %s; %s none%s",
        name, column, counted(len(classes), "class"), counted(names.count(""), "row", "has"),
        "".join(f" ({each})" for each in faults[:1]),
    )  # fmt: skip
    numbers = {each: number for number, each in enumerate(classes)} | {"": UNLABELLED}
    return classes, np.array([numbers[each] for each in names], np.int64)
