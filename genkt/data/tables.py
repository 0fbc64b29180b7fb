"""Tables that people and programs write: their encoding, separator and columns.

A table is read if these are certain. Otherwise it is refused, and one line says what was expected.
"""

from __future__ import annotations

import codecs
import csv
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genkt.data.class_names import CLASS_COLUMNS, class_of_text, plain_key
from genkt.data.pictures.formats import looks_like_image
from genkt.io import did_you_mean
from genkt.types import UserError, counted

logger = logging.getLogger(__name__)

NAME_COLUMNS = (
    "filename", "filepath", "file", "path", "imagepath", "imagename", "imagefile", "imagefilename",
    "imageindex", "image", "imageid", "imgpath", "imgname", "imgfile", "img", "imgid", "fname",
    "photo", "picture", "name", "id",
)  # fmt: skip
"""Names of the column of image names (see ``plain_key``), the most certain first."""

_SEPARATORS = ",;\t"
_ABSENT = frozenset({"nan", "none", "null", "n/a", "na", "<na>", "nat"})
_MOST_FAULTS = 10
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Line:
    """A line that holds something: its number, its cells without spaces around, and its text."""

    number: int
    cells: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Row:
    """What a line of a list names: an image, its class and group ("" for none); or a fault."""

    line: Line
    name: str = ""
    class_name: str = ""
    fault: str = ""
    group: str = ""


@dataclass(frozen=True)
class Columns:
    """The places of the image's name and its class in a row.

    Args:
        name, label: places; None if the header has no such column.
        header: cells of it, () where there is none.
        group: place of the column of groups; None: it is not read.
    """

    name: int | None = 0
    label: int | None = 1
    header: tuple[str, ...] = ()
    group: int | None = None

    @property
    def read(self) -> list[str]:
        """The columns that are read."""
        places = (self.name, self.label, self.group)
        return [self.header[at] for at in places if at is not None]

    @property
    def ignored(self) -> list[str]:
        """Other columns that the header names."""
        places = (self.name, self.label, self.group)
        return [c for at, c in enumerate(self.header) if c and at not in places]


def decode_text(data: bytes) -> str:
    """A text in UTF-8, or in UTF-16 with a byte order mark.

    Raises:
        UnicodeDecodeError: it is in neither.
    """
    return data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")


def read_text(file: Path, what: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark.

    Args:
        what: kind of file, for the message.

    Raises:
        UserError: it cannot be read, or is in another encoding.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"{what} {file}: {error.strerror}") from error
    try:
        text = decode_text(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{what} {file}: not UTF-8 text, in line {line}: save it as UTF-8 (one of Windows: "
            f"iconv -f CP1252 -t UTF-8 {file.name})"
        ) from error
    if "\0" in text:
        raise UserError(f"{what} {file}: not UTF-8 text, it holds zero bytes: save it as UTF-8")
    return text


def split_lines(
    text: str, fits: Callable[[Sequence[str]], bool], *, two: bool = False
) -> list[Line]:
    """The lines that hold something, cut at commas, semicolons or tabs.

    The separator is the first one that gives most rows two or more cells and makes the first or
    second row fit. A first line ``sep=;``, as Excel uses it, sets the separator.

    Args:
        fits: whether the cells of a row are as they should be.
        two: every row must have two cells. Bars and spaces may then separate too, if they split
        every row in two.

    Raises:
        csv.Error: quotes that do not close.
    """
    first, _, rest = text.partition("\n")
    named = first.strip(" \r").removeprefix("sep=")
    if named != first.strip(" \r") and named and named in _SEPARATORS:
        return _cut("\n" + rest, named)
    for separator in _SEPARATORS + "| " * two:
        try:
            lines = _cut(text, separator)
        except csv.Error:
            continue
        rows = [line.cells for line in lines if not line.text.startswith("#")]
        most = 2 * sum(len(cells) > 1 for cells in rows) > len(rows)
        if separator in "| ":
            most = bool(rows) and all(len(cells) == 2 for cells in rows)
        if most and len(rows[0]) > 1 and any(map(fits, rows[:2])):
            return lines
    return _cut(text, _SEPARATORS[0])


def _cut(text: str, separator: str) -> list[Line]:
    source = list(io.StringIO(text, newline=""))
    reader = csv.reader(source, delimiter=separator, skipinitialspace=True, strict=True)
    lines, start = [], 0
    for row in reader:
        cells = tuple(cell.strip() for cell in row)
        if any(cells):
            written = "".join(source[start : reader.line_num]).strip()
            lines.append(Line(reader.line_num, cells, written))
        start = reader.line_num
    return lines


def find_columns(cells: Sequence[str]) -> Columns | None:
    """The columns that a header names; None for a row that is no header.

    A header names no image. With two cells, one must be a known name for its column (image or
    class). With more cells, one known name of either kind is enough.
    """
    if any(map(looks_like_image, cells)):
        return None
    keys = [plain_key(cell) for cell in cells]
    while keys and not keys[-1]:
        keys.pop()
    name, label = _place(keys, NAME_COLUMNS), _place(keys, CLASS_COLUMNS)
    if len(keys) > 2:
        return None if name is label is None else Columns(name, label, tuple(cells))
    if len(keys) == 2 and keys[0] in CLASS_COLUMNS and keys[1] in NAME_COLUMNS:
        return Columns(1, 0, tuple(cells))
    known = keys[:1] and keys[0] in NAME_COLUMNS
    known = known or (keys[1:] and keys[1] in CLASS_COLUMNS)
    return Columns(0, 1, tuple(cells)) if known else None


def _place(keys: Sequence[str], known: Sequence[str]) -> int | None:
    """The place of the key that comes first in ``known``."""
    here = [key for key in known if key in keys]
    return keys.index(here[0]) if here else None


def read_rows(
    file: Path,
    what: str,
    *,
    known: Callable[[str], bool],
    labelled: bool,
    group: str | None = None,
) -> list[Row]:
    """The rows of a list of images: ``filename,class``, or columns that a header names.

    A line that starts with ``#`` is a comment, unless it names an existing image or is a header in
    the first line. What is ignored, or read as another name, is reported once.

    Args:
        what: kind of file, for messages.
        known: whether a text names an existing image.
        labelled: a header must name a column of classes, and the one of groups.
        group: the column of groups, if it is read.

    Raises:
        UserError: no text, no table, or a header without the columns that are needed.
    """
    place = f"{what} {file}"

    def fits(cells: Sequence[str]) -> bool:
        return find_columns(cells) is not None or looks_like_image(cells[0]) or known(cells[0])

    try:
        lines = split_lines(read_text(file, what), fits, two=labelled)
    except csv.Error as error:
        raise UserError(f"{place}: {error}") from error
    lines = _without_comments(_bare_header(lines), known, place)
    columns = find_columns(lines[0].cells) if lines else None
    if group is not None:
        columns = _with_group(columns, group, labelled, place)
    if columns is not None:
        del lines[0]
        _check_columns(columns, labelled, place)
    elif _is_unknown_header(lines, known):
        _refuse_header(lines[0].cells, place)
    rows = [_row(line, columns or Columns()) for line in lines]
    _tell_renamed(rows, columns or Columns(), place)
    _tell_absent(rows, place)
    return rows


def check_faults(faults: Sequence[str], place: str) -> None:
    """Refuse a list with faulty lines: all are counted, the first few are shown.

    Args:
        faults: one text per faulty line.  place: what the file is, and its path.

    Raises:
        UserError: there are some.
    """
    if faults:
        shown = "; ".join(faults[:_MOST_FAULTS])
        more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
        count = "a fault" if len(faults) == 1 else counted(len(faults), "fault")
        raise UserError(f"{place}, {count}: {shown}{more}")


def _bare_header(lines: Sequence[Line]) -> list[Line]:
    """The lines, the first without the # that NumPy puts before a header, where it is one."""
    if not lines or not lines[0].text.startswith("#"):
        return list(lines)
    first, *rest = lines
    cells = (first.cells[0].lstrip("# "), *first.cells[1:])
    columns = find_columns(cells)
    if columns is None or columns.name is None or columns.label is None:
        return list(lines)
    return [Line(first.number, cells, first.text.lstrip("# ")), *rest]


def _without_comments(
    lines: Sequence[Line], known: Callable[[str], bool], place: str
) -> list[Line]:
    kept: list[Line] = []
    comments: list[Line] = []
    for line in lines:
        marked = line.text.startswith("#") and not (known(line.cells[0]) or known(line.text))
        (comments if marked else kept).append(line)
    rows = [line for line in comments if looks_like_image(line.cells[0])]
    if rows:
        logger.warning(
            "%s: lines that start with # and are comments: %d, of which %d name images (the first "
            "in line %d: %s); one counts as a row where a file is called so, # included",
            place, len(comments), len(rows), rows[0].number, rows[0].cells[0],
        )  # fmt: skip
    return kept


def _with_group(columns: Columns | None, group: str, needed: bool, place: str) -> Columns | None:
    """The columns with the one that the user calls ``group``, in whatever case and signs."""
    header = () if columns is None else columns.header
    same = [at for at, cell in enumerate(header) if cell == group]
    same += [at for at, cell in enumerate(header) if plain_key(cell) == plain_key(group)]
    if same and columns is not None:
        return replace(columns, group=same[0])
    if not needed:
        return columns
    if not header:
        raise UserError(f"data.group={group}: {place} has no header, so no column of that name")
    raise UserError.of(
        "data.group", f"a column of {place}", group,
        f".{did_you_mean(group, header)} Its columns: {', '.join(filter(None, header))}",
    )  # fmt: skip


def _check_columns(columns: Columns, labelled: bool, place: str) -> None:
    if columns.name is None or (columns.label is None and labelled):
        _refuse_header(columns.header, place)
    if ignored := columns.ignored:
        shown = ", ".join(ignored[:5]) + ", ..." * (len(ignored) > 5)
        logger.warning(
            "%s: read the columns %s, ignored %d (%s)",
            place, " and ".join(columns.read), len(ignored), shown,
        )  # fmt: skip


def _is_unknown_header(lines: Sequence[Line], known: Callable[[str], bool]) -> bool:
    """Whether the first row has two cells and it alone names no image."""
    if len(lines) < 2 or len(lines[0].cells) < 2:
        return False
    first, *others = [line.cells[0] for line in lines]
    named = looks_like_image(first) or known(first) or known(lines[0].text)
    return not named and all(map(looks_like_image, others))


def _refuse_header(cells: Sequence[str], place: str) -> None:
    raise UserError(
        f"{place}: expected a header with a column of names ({', '.join(NAME_COLUMNS[:4])}, "
        f"image, id, ...) and one of classes ({', '.join(CLASS_COLUMNS[:3])}, ...), or rows of "
        f"filename,class; got {', '.join(filter(None, cells))}"
    )


def _row(line: Line, columns: Columns) -> Row:
    cells = list(line.cells)
    most = max(2, len(columns.header))
    while len(cells) > most and not cells[-1]:
        cells.pop()
    if len(cells) > most:
        got = f"{len(cells)} columns" + f", the header has {most}" * bool(columns.header)
        return Row(line, fault=f"{got}; a name with a comma needs quotes")
    cells += [""] * (most - len(cells))
    assert columns.name is not None
    label = "" if columns.label is None else class_of_text(cells[columns.label])
    group = "" if columns.group is None else cells[columns.group]
    return Row(line, cells[columns.name], label, group=group)


def _tell_absent(rows: Sequence[Row], place: str) -> None:
    """Warn about words that programs write for an empty cell; here each counts as a class."""
    words = [row.class_name for row in rows if row.class_name.casefold() in _ABSENT]
    for word in dict.fromkeys(words):
        logger.warning(
            '%s: "%s" counts as a class, in %d rows; if it means "no class", remove these rows',
            place, word, words.count(word),
        )  # fmt: skip


def _tell_renamed(rows: Sequence[Row], columns: Columns, place: str) -> None:
    if columns.label is None:
        return
    cells = ((row, row.line.cells[columns.label : columns.label + 1]) for row in rows)
    renamed = [(cell[0], row.class_name) for row, cell in cells if cell and not row.fault]
    renamed = [(cell, name) for cell, name in renamed if cell != name]
    if renamed:
        cell, name = renamed[0]
        logger.warning(
            "%s: classes like %s are read as %s, in rows: %d", place, cell, name, len(renamed)
        )
