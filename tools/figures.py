"""Figures that genkt and its README quote, from the results of the studies.

    python tools/figures.py            # writes configs/evidence.json, then checks the README
    python tools/figures.py --check    # writes nothing

Exits with 1 where the README (or, with --check, the file) differs from the results. A figure that
the package is to quote is named in ``CONTRASTS`` or ``GAINS``, a table of the README in ``TABLES``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from genkt.metrics.statistics import PairedDifference
from genkt.report.transfer.summary import signed, span
from genkt.types import Interval

ROOT = Path(__file__).resolve().parents[1]
EVIDENCE = ROOT / "configs" / "evidence.json"
README = ROOT / "README.md"

CONTRASTS = (
    ("transfer_sets", "real_few", "stl"),
    ("transfer_sets", "digg_few", "stl"),
    ("transfer_sets", "few", "stl"),
)
"""(study, arm, arm it is compared with), after fine-tuning."""

GAINS = ("logit_kd", "kl_dp")
"""Methods of ``benchmarks/kl_dp_pairs.py``: in how many pairs of models the student gains."""

PAIRS = "benchmarks/results/kl_dp_pairs-cpu.json"

DISTILLED, ACCURACY = "distilled", "accuracy"
MINUS_BASELINE, MINUS_REFERENCE = "minus_baseline", "minus_reference"


@dataclass(frozen=True)
class Table:
    """A table of the README.

    Args:
        study: that it is of.
        header: the start of its first line.
        columns: what the columns behind the first one show.
        rows: label in the first column -> its arm, or one arm a column (None: an empty cell).
    """

    study: str
    header: str
    columns: Sequence[str]
    rows: Mapping[str, str | Sequence[str | None]]


_FOUR = (DISTILLED, ACCURACY, MINUS_BASELINE, MINUS_REFERENCE)
_PROBE = "`recipe=task_oriented`: the probe was the better teacher each time, so the same"

TABLES = (
    Table(
        "transfer_sets",
        "| transfer set | distilled only",
        (DISTILLED, ACCURACY, MINUS_BASELINE),
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
    Table(
        "methods",
        "| on the 880 real unlabelled images",
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
    Table(
        "methods",
        "| after fine-tuning, on | real unlabelled",
        (ACCURACY,) * 3,
        {
            "KL on predictions": ("logit_kd", "logit_kd_digg", "logit_kd_retrieved"),
            "AFT": ("aft", "aft_digg", "aft_retrieved"),
            "feature regression": ("feature_kd", "feature_kd_digg", None),
            "RKD": ("rkd", "rkd_digg", None),
            "`recipe=ota` (teacher by IRF, then L2)": (None, "ota", None),
        },
    ),
    Table(
        "methods_on_photos",
        "| on the 800 real unlabelled images",
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
)


@cache
def study(name: str) -> Any:
    """The stored results of a study."""
    return json.loads((ROOT / source(name)).read_text(encoding="utf-8"))


def source(name: str) -> str:
    """Where the results of a study are stored, relative to the repository."""
    return f"docs/{name}/compare.json"


def _arm(name: str, arm: str) -> Any:
    return next(each for each in study(name)["arms"] if each["arm"] == arm)


def _difference(name: str, arm: str, against: str) -> Any:
    """The stored difference of two arms after fine-tuning. Raises: StopIteration for none."""
    results = study(name)
    stored = (each for kind in (MINUS_BASELINE, MINUS_REFERENCE, "pairs") for each in results[kind])
    return next(each for each in stored if (each["a"], each["b"]) == (arm, against))[ACCURACY]


def evidence() -> dict[str, Any]:
    """What ``configs/evidence.json`` is to hold."""
    contrasts = []
    for name, arm, against in CONTRASTS:
        stored = _difference(name, arm, against)
        data = _arm(name, arm)["config"]["data"]
        contrasts.append(
            {
                "study": name,
                "source": source(name),
                "arm": arm,
                "against": against,
                "data": data["name"],
                "labels_per_class": data["labels_per_class"],
                "num_draws": stored["num_draws"],
                "mean_points": stored["mean_points"],
                "low_points": stored["low_points"],
                "high_points": stored["high_points"],
                "p_value": stored["p_value"],
                "date": study(name)["versions"]["date"],
            }
        )
    pairs = json.loads((ROOT / PAIRS).read_text(encoding="utf-8"))
    summary = pairs["results"]["summary"]["all"]
    gains = [
        {
            "source": PAIRS,
            "method": method,
            "gains": summary[method]["gains"],
            "pairs": summary["pairs"],
            "date": pairs["versions"]["date"],
        }
        for method in GAINS
    ]
    return {
        "schema": "genkt.evidence",
        "schema_version": 1,
        "contrasts": contrasts,
        "gains": gains,
    }


def cell(name: str, arm: str | None, column: str) -> str:
    """What a cell of the README says: "93.9 ± 2.0", "**+11.5** (8.1 to 14.9)", "" for nothing."""
    if arm is None:
        return ""
    if column in (DISTILLED, ACCURACY):
        stored = _arm(name, arm)[column]
        if stored is None:
            return ""
        return str(
            Interval(stored["mean_percent"], stored["half_width_points"], stored["num_draws"])
        )
    results = study(name)
    other = results["baseline" if column == MINUS_BASELINE else "reference"]
    if arm in (other, results["baseline"]):
        return ""
    return _spelled(_difference(name, arm, other))


def _paired(stored: Any) -> PairedDifference:
    return PairedDifference(
        stored["mean_points"], stored["low_points"], stored["high_points"],
        stored["p_value"], stored["num_draws"],
    )  # fmt: skip


def _spelled(stored: Any) -> str:
    difference = _paired(stored)
    if difference.low == difference.high:
        return signed(difference.mean)
    mean = signed(difference.mean)
    return f"{f'**{mean}**' if difference.established else mean} ({span(difference)})"


def lines(table: Table) -> dict[str, list[str]]:
    """Label -> what the cells behind it are to say."""
    found = {}
    for label, arms in table.rows.items():
        each = [arms] * len(table.columns) if isinstance(arms, str) else arms
        pairs = zip(each, table.columns, strict=True)
        found[label] = [cell(table.study, arm, column) for arm, column in pairs]
    return found


def table_faults(text: str, table: Table) -> list[str]:
    """Where a table of the README says other things than the study.

    The best accuracies may be bold; "chance" may stand for a student whose classifier no loss has
    reached.
    """
    _, found, rest = text.partition(f"\n{table.header}")
    if not found:
        return [f"no table that starts with {table.header}"]
    rows = [
        [each.strip() for each in line.strip("|").split("|")]
        for line in rest.partition("\n\n")[0].splitlines()[2:]
    ]
    written = {row[0]: [*row[1:], *[""] * (len(table.columns) - len(row) + 1)] for row in rows}
    expected = lines(table)
    if list(written) != list(expected):
        return [f"{table.header}: expected rows {list(expected)}, got {list(written)}"]
    faults = []
    for label, cells in expected.items():
        for column, want, got in zip(table.columns, cells, written[label], strict=True):
            plain = got.replace("**", "") if column in (DISTILLED, ACCURACY) else got
            if plain != want and not (column == DISTILLED and plain == "chance"):
                faults.append(f"{label}, {column}: expected '{want}', got '{got}'")
    return faults


def quote_faults(text: str) -> list[str]:
    """Figures of ``configs/evidence.json`` that the README's "Which one when?" does not repeat."""
    place = text.partition("**Which one when?**")[2].partition("**A method of your own**")[0]
    stored = evidence()
    figures = [(each["arm"], _paired(each)) for each in stored["contrasts"]]
    quotes = {arm: f"{signed(each.mean)} points ({span(each)})" for arm, each in figures}
    quotes |= {
        each["method"]: f"{100 * each['gains'] / each['pairs']:.0f} %" for each in stored["gains"]
    }
    return [f"Which one when, {name}: no '{q}'" for name, q in quotes.items() if q not in place]


def readme_faults(text: str) -> list[str]:
    """Every figure of the README that differs from the results it is of."""
    faults = [fault for table in TABLES for fault in table_faults(text, table)]
    return faults + quote_faults(text)


def main(words: Sequence[str]) -> int:
    """Write or check. Returns: the exit code."""
    wanted = json.dumps(evidence(), indent=1) + "\n"
    faults = readme_faults(README.read_text(encoding="utf-8"))
    if "--check" not in words:
        EVIDENCE.write_text(wanted, encoding="utf-8")
    elif EVIDENCE.read_text(encoding="utf-8") != wanted:
        faults.append(f"{EVIDENCE}: differs from the results; run make figures")
    print("\n".join(faults) or "README and evidence agree with the results")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
