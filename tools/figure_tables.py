"""The tables of the README and the pages whose cells are figures of studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stored_figures import study, text_of

ACCURACY, DISTILLED = "{0}:{1}", "{0}:{1}@distilled"
MINUS_BASELINE, MINUS_REFERENCE = "{0}:{1}/{2}", "{0}:{1}/{3}"
"""Figures of an arm, of its study's baseline and its reference."""


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Args:
        page: its path in the repository.
        header: the start of its first line.
        rows: label in the first column -> the figures behind it (None: an empty cell).
    """

    page: str
    header: str
    rows: Mapping[str, Sequence[str | None]]

    @property
    def studies(self) -> set[str]:
        """Whose figures it shows."""
        figures = (figure for row in self.rows.values() for figure in row if figure)
        return {figure.partition(":")[0] for figure in figures}


def _rows(name: str, columns: Sequence[str], arms: Mapping[str, str]) -> dict[str, list[str]]:
    """Label -> the figures of an arm, one per column."""
    baseline, reference = study(name)["baseline"], study(name)["reference"]
    found = {}
    for label, arm in arms.items():
        own = columns if arm != baseline else columns[:2]
        found[label] = [column.format(name, arm, baseline, reference) for column in own]
    return found


_THREE = (DISTILLED, ACCURACY, MINUS_BASELINE)
_FOUR = (*_THREE, MINUS_REFERENCE)
_PROBE = "`recipe=task_oriented`: the probe was the better teacher in every draw, so the same"

WORLDS = {
    "letters on photographs": "letters",
    "signs of a font on photographs": "icons",
    "shapes on photographs": "shapes",
    "Greek letters, student trained on letters": "greek",
    "digits on photographs": "digits_on_photos",
    "digits": "digits",
    "Fashion-MNIST": "clothes",
    "signs, student trained on letters": "icons_pretrained",
}
"""Label -> world of the defaults' study, as far as it has been run."""

TABLES = (
    Table(
        "README.md",
        "| built-in task, 5 label draws |",
        {
            "digits, 2 labels per class; + 1000 generated images": [
                "transfer_sets:stl", "transfer_sets:digg_few", "transfer_sets:digg_few/stl",
            ],
            "the same; + 1000 retrieved images": [
                "transfer_sets:stl", "transfer_sets:retrieved_few",
                "transfer_sets:retrieved_few/stl",
            ],
            "the same; + 880 unlabelled images": [
                "transfer_sets:stl", "transfer_sets:real_few", "transfer_sets:real_few/stl",
            ],
            "digits on photographs, 10 per class; + 800 unlabelled images, tuned": [
                "methods_on_photos:stl", "methods_on_photos:logit_kd",
                "methods_on_photos:logit_kd/stl",
            ],
        },
    ),
    Table(
        "docs/studies/transfer-sets.md",
        "| transfer set | distilled only",
        _rows(
            "transfer_sets",
            _THREE,
            {
                "none: plain fine-tuning": "stl",
                "the few labelled images only": "few",
                "generic upstream: random glyphs": "generic",
                "retrieved glyphs": "retrieved",
                "DIGG": "digg",
                "real unlabelled": "real",
                "generic + few": "generic_few",
                "retrieved + few": "retrieved_few",
                "DIGG + few": "digg_few",
                "real + few": "real_few",
            },
        ),
    ),
    Table(
        "docs/studies/defaults.md",
        "| world | plain fine-tuning | fixed settings",
        {
            label: [
                *(f"defaults/{name}:{arm}" for arm in ("plain", "fixed", "best", "bare", "tuned")),
                f"defaults/{name}:bare/tuned",
            ]
            for label, name in WORLDS.items()
        },
    ),
    Table(
        "docs/studies/methods.md",
        "| on the 880 real unlabelled images",
        _rows(
            "methods",
            _FOUR,
            {
                "plain fine-tuning": "stl",
                "KL on predictions (`logit_kd`)": "logit_kd",
                _PROBE: "task_oriented",
                "KL on the top k": "top_k_kd",
                "AFT": "aft",
                "feature regression": "feature_kd",
                "factor transfer": "factor_transfer",
                "CD": "cd",
                "RKD": "rkd",
                "L2 on features (OTA's objective)": "l2_feature",
                "CRD": "crd",
                "B-Tuning": "b_tuning",
                "`recipe=task_agnostic`: feature maps (`cosine_patch`)": "cosine_patch",
                "`recipe=task_agnostic`: image features (`contrastive`)": "contrastive",
                "pseudo-labels, no teacher": "pseudo_label",
                "SimCLR, no teacher": "ssl",
                "pretrained on drawn glyphs, no teacher": "supervised_pretrain",
            },
        ),
    ),
    Table(
        "docs/studies/methods.md",
        "| after fine-tuning, on | real unlabelled",
        {
            "KL on predictions": [
                "methods:logit_kd", "methods:logit_kd_digg", "methods:logit_kd_retrieved",
            ],
            "AFT": ["methods:aft", "methods:aft_digg", "methods:aft_retrieved"],
            "feature regression": ["methods:feature_kd", "methods:feature_kd_digg", None],
            "RKD": ["methods:rkd", "methods:rkd_digg", None],
            "`recipe=ota` (teacher by IRF, then L2)": [None, "methods:ota", None],
        },
    ),
    Table(
        "docs/studies/methods-on-photos.md",
        "| on the 800 real unlabelled images",
        _rows(
            "methods_on_photos",
            _FOUR,
            {
                "plain fine-tuning": "stl",
                "KL on predictions, and task-oriented": "logit_kd",
                "task-agnostic, image features": "contrastive",
                "feature regression": "feature_kd",
                "AFT": "aft",
                "RKD": "rkd",
            },
        ),
    ),
    Table(
        "docs/studies/teachers.md",
        "| digits, 2 labels per class | larger teacher",
        {
            label: [
                f"teachers:{arm}", f"teachers:{arm}_small", f"teachers:{arm}_both",
                f"teachers:{arm}/{arm}_small",
            ]
            for label, arm in {
                "KL on the real unlabelled images": "logit_kd",
                "AFT on them": "aft",
                "KL on DIGG": "logit_kd_digg",
                "AFT on DIGG": "aft_digg",
            }.items()
        },
    ),
    Table(
        "docs/studies/retrieval-style.md",
        "| share of `pixels` | distilled only",
        _rows(
            "retrieval_style",
            _THREE,
            {
                "0: the teacher alone": "teacher",
                "10 %": "pixels_10",
                "20 %, the default": "pixels_20",
                "50 %": "pixels_50",
                "pixels alone": "pixels",
            },
        ),
    ),
)  # fmt: skip


def checked_table(text: str, table: Table) -> tuple[str, list[str]]:
    """The page with the stored figures in a table, and where the table differed.

    The best accuracies may be bold; "chance" may stand for a student whose classifier no loss has
    reached, before its fine-tuning.
    """
    before, found, rest = text.partition(f"\n{table.header}")
    if not found:
        return text, [f"{table.page}: no table that starts with {table.header}"]
    body, gap, after = rest.partition("\n\n")
    head, rows = body.splitlines()[:2], [_cells(line) for line in body.splitlines()[2:]]
    labels = [row[0] for row in rows]
    if labels != list(table.rows):
        return text, [
            f"{table.page}, {table.header}: expected rows {list(table.rows)}, got {labels}"
        ]
    faults: list[str] = []
    for row, figures in zip(rows, table.rows.values(), strict=True):
        row += [""] * (1 + len(figures) - len(row))
        for index, got in enumerate(row[1:], 1):
            figure = figures[index - 1] if index <= len(figures) else None
            want = text_of(figure)
            if not _agree(got, want, figure):
                row[index] = want
                faults.append(f"{table.page}: {row[0]}: {figure}: expected '{want}', got '{got}'")
    if not faults:
        return text, []
    lines = ["|" + "".join(f" {cell} |" if cell else " |" for cell in row) for row in rows]
    return before + found + "\n".join([*head, *lines]) + gap + after, faults


def _cells(line: str) -> list[str]:
    return [each.strip() for each in line.strip("|").split("|")]


def _agree(got: str, want: str, figure: str | None) -> bool:
    """Whether a cell says what is stored."""
    plain = got if figure and "/" in figure else got.replace("**", "")
    return plain == want or (plain == "chance" and figure is not None and "@distilled" in figure)
