"""``genkt predict RUN IMAGES...``."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

from genkt.cli.app import read_config
from genkt.cli.positional import with_positionals
from genkt.config.command_settings import PredictConfig
from genkt.disk import output_file
from genkt.io import write_text
from genkt.types import UserError

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def run(words: list[str]) -> None:
    """Predict the images and print or write the answers."""
    config = read_config(PredictConfig, "predict", with_positionals(words, "run", "images"))
    if not config.images:
        raise UserError("images: expected files or folders after the run folder, got none")
    output = output_file(config.output) if config.output else None
    from genkt.inference.load_classifier import load_classifier, predict_images, top_classes
    from genkt.readers.single_files import read_files

    classifier = load_classifier(config.run)
    images = read_files(config.images)
    for entry in images.skipped:
        print(f"genkt predict: {entry.path}: left out: {entry.reason}", file=sys.stderr)
    prediction = predict_images(
        classifier, images, device=config.device, batch_size=config.batch_size
    )
    rows = top_classes(classifier, prediction, config.top)
    text = _FORMATS[config.format](rows)
    if output is not None:
        print(write_text(output, text))
    else:
        print(text, end="")


def _table(rows: list[dict[str, Any]]) -> str:
    width = max(len(row["image"]) for row in rows)
    names = max(len(row["label"]) for row in rows)
    return "".join(
        f"{row['image']:<{width}}  {row['label']:<{names}}  {row['probability']:.3f}\n"
        for row in rows
    )


def _csv(rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["image", "label", "probability"])
    writer.writerows(
        [_inert(row["image"]), _inert(row["label"]), row["probability"]] for row in rows
    )
    return stream.getvalue()


def _inert(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: those that begin like one get a quote."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _json(rows: list[dict[str, Any]]) -> str:
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


_FORMATS = {"table": _table, "csv": _csv, "json": _json}
