"""Figures that genkt, its README and its pages quote, from the stored results.

    python tools/figures.py            # writes configs/evidence.json, then checks the pages
    python tools/figures.py --check    # writes nothing

Exits with 1 where a page (or, with --check, the file) differs from the results. A figure that the
package is to quote is named in ``CONTRASTS`` or ``GAINS``, a table of a page in
``figure_tables.py``; a figure in prose carries its source in a comment (``quoted_figures.py``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools")]

from figure_tables import TABLES, table_faults  # noqa: E402
from quoted_figures import quote_faults  # noqa: E402
from stored_figures import arm_of, difference_of, difference_text, source, study  # noqa: E402

EVIDENCE = ROOT / "configs" / "evidence.json"
ADVICE = ROOT / "docs" / "which-method.md"
"""The page that says what ``method=auto`` takes, and why."""

CONTRASTS = (
    ("transfer_sets", "real_few", "stl"),
    ("transfer_sets", "digg_few", "stl"),
    ("transfer_sets", "few", "stl"),
)
"""(study, arm, arm it is compared with), after fine-tuning."""

GAINS = ("logit_kd", "kl_dp")
"""Methods of ``benchmarks/kl_dp_pairs.py``: in how many pairs of models the student gains."""

PAIRS = "benchmarks/results/kl_dp_pairs-cpu.json"


def evidence() -> dict[str, Any]:
    """What ``configs/evidence.json`` is to hold."""
    contrasts = []
    for name, arm, against in CONTRASTS:
        stored = difference_of(name, arm, against)
        data = arm_of(name, arm)["config"]["data"]
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


def advice_faults(text: str) -> list[str]:
    """Figures of ``configs/evidence.json`` that the page on ``method=auto`` does not repeat."""
    stored = evidence()
    quotes = {each["arm"]: difference_text(each, "points") for each in stored["contrasts"]}
    quotes |= {
        each["method"]: f"{100 * each['gains'] / each['pairs']:.0f} %" for each in stored["gains"]
    }
    return [f"{ADVICE.name}, {name}: no '{q}'" for name, q in quotes.items() if q not in text]


def pages() -> dict[str, str]:
    """The README and every page of ``docs/``, by path from the repository."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def page_faults(texts: dict[str, str]) -> list[str]:
    """Every figure of the pages that differs from the results it is of."""
    faults = [fault for table in TABLES for fault in table_faults(texts[table.page], table)]
    faults += [fault for page, text in texts.items() for fault in quote_faults(page, text)]
    return faults + advice_faults(texts[ADVICE.relative_to(ROOT).as_posix()])


def main(words: Sequence[str]) -> int:
    """Write or check. Returns: the exit code."""
    wanted = json.dumps(evidence(), indent=1) + "\n"
    faults = page_faults(pages())
    if "--check" not in words:
        EVIDENCE.write_text(wanted, encoding="utf-8")
    elif EVIDENCE.read_text(encoding="utf-8") != wanted:
        faults.append(f"{EVIDENCE}: differs from the results; run make figures")
    print("\n".join(faults) or "the pages and the evidence agree with the results")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
