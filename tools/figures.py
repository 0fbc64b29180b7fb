"""Figures that genkt, its README and its pages quote, from the stored results.

    python tools/figures.py            # writes configs/evidence.json and the figures of the pages
    python tools/figures.py --check    # writes nothing

Exits with 1 where something differs from the results: with --check anything, otherwise what only a
person can mend. A figure that the package is to quote is named in ``CONTRASTS`` or ``GAINS``, a
table of a page in ``figure_tables.py``; a figure in prose carries its source in a comment
(``quoted_figures.py``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tools")]

from figure_tables import TABLES, checked_table  # noqa: E402
from quoted_figures import checked_quotes, studies_of  # noqa: E402
from stored_figures import arm_of, difference_of, source, study, waits  # noqa: E402

EVIDENCE = ROOT / "configs" / "evidence.json"
ADVICE = ROOT / "docs" / "which-method.md"
"""The page that says what ``method=auto`` takes, and why."""

WAITS = (
    "*These intervals are Student's t over the label draws alone. They leave out the choice of the "
    "test\nimages and that many differences are asked for at once, and wait for a new run.*"
)
"""What a page of studies says while one of them is of before genkt counted test images too."""

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
                "p_adjusted": stored.get("p_adjusted"),
                "established": stored["established"],
                "num_images": stored.get("num_images"),
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
        "schema_version": 2,
        "contrasts": contrasts,
        "gains": gains,
    }


def checked_advice(text: str) -> list[str]:
    """Figures of ``configs/evidence.json`` that the page on ``method=auto`` does not repeat."""
    stored = evidence()
    quotes = {
        each["arm"]: f"<!--{each['study']}:{each['arm']}/{each['against']}-->"
        for each in stored["contrasts"]
    }
    quotes |= {
        each["method"]: f"{100 * each['gains'] / each['pairs']:.0f} %" for each in stored["gains"]
    }
    return [f"{ADVICE.name}, {name}: no '{q}'" for name, q in quotes.items() if q not in text]


def checked_waiting(page: str, text: str) -> tuple[str, list[str]]:
    """The page of a study with ``WAITS`` under its title as long as one that it quotes waits."""
    names = studies_of(text) | {
        name for table in TABLES if table.page == page for name in table.studies
    }
    wanted = page.startswith("docs/studies/") and any(map(waits, names))
    if wanted == (WAITS in text):
        return text, []
    if not wanted:
        return text.replace(f"{WAITS}\n\n", ""), [f"{page}: says that it waits for a new run"]
    title, _, rest = text.partition("\n\n")
    return f"{title}\n\n{WAITS}\n\n{rest}", [f"{page}: does not say that it waits for a new run"]


def pages() -> dict[str, str]:
    """The README and every page of ``docs/``, by path from the repository."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def checked_pages(texts: dict[str, str]) -> tuple[dict[str, str], list[str]]:
    """The pages with the figures of the results, and where they differed from them."""
    found, faults = dict(texts), []
    for table in TABLES:
        found[table.page], wrong = checked_table(found[table.page], table)
        faults += wrong
    for page in found:
        for check in (checked_quotes, checked_waiting):
            found[page], wrong = check(page, found[page])
            faults += wrong
    return found, faults + checked_advice(found[ADVICE.relative_to(ROOT).as_posix()])


def main(words: Sequence[str]) -> int:
    """Write or check. Returns: the exit code."""
    wanted, texts = json.dumps(evidence(), indent=1) + "\n", pages()
    mended, faults = checked_pages(texts)
    if "--check" not in words:
        EVIDENCE.write_text(wanted, encoding="utf-8")
        for page, text in mended.items():
            if text != texts[page]:
                (ROOT / page).write_text(text, encoding="utf-8")
                print(f"written: {page}")
        _, faults = checked_pages(mended)
    elif EVIDENCE.read_text(encoding="utf-8") != wanted:
        faults.append(f"{EVIDENCE}: differs from the results; run make figures")
    print("\n".join(faults) or "the pages and the evidence agree with the results")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
