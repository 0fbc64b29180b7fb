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


def table_faults(text: str, table: Table) -> list[str]:
    """Where a table of a page says other things than the studies.

    The best accuracies may be bold; "chance" may stand for a student whose classifier no loss has
    reached, before its fine-tuning.
    """
    _, found, rest = text.partition(f"\n{table.header}")
    if not found:
        return [f"{table.page}: no table that starts with {table.header}"]
    rows = [
        [each.strip() for each in line.strip("|").split("|")]
        for line in rest.partition("\n\n")[0].splitlines()[2:]
    ]
    written = {row[0]: row[1:] for row in rows}
    if list(written) != list(table.rows):
        return [
            f"{table.page}, {table.header}: expected rows {list(table.rows)}, got {list(written)}"
        ]
    faults = []
    for label, figures in table.rows.items():
        cells = written[label]
        padded = [*cells, *[""] * (len(figures) - len(cells))]
        wanted = [*figures, *[None] * (len(padded) - len(figures))]
        for figure, got in zip(wanted, padded, strict=True):
            want = text_of(figure)
            plain = got if figure and "/" in figure else got.replace("**", "")
            untrained = plain == "chance" and figure is not None and "@distilled" in figure
            if plain != want and not untrained:
                faults.append(f"{table.page}: {label}: {figure}: expected '{want}', got '{got}'")
    return faults
