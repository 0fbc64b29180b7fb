"""What retrieved glyphs look like: does their ground have the queries' polarity, and why not?

    python benchmarks/retrieval_style.py

Real digits are light strokes on a dark ground; a fifth of the 40 000 gallery glyphs are not. For
several shares of the encoder ``pixels`` in the score: 1000 glyphs are retrieved for each of five
label draws, and counted are those on a dark ground (mean of the outermost three pixels) and those
of their query's class. Beside it, the teacher's cosine of a digit with its own negative, with
others of its class, and with other classes. ``genkt compare study=retrieval_style`` trains on such
sets.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import report
from numpy.typing import NDArray
from PIL import Image

import genkt
from genkt.data.builtin.digits import digits
from genkt.io import derive_seed, resource
from genkt.retrieval.encoder import EncoderSpec
from genkt.retrieval.encoders import encode_all, load_encoder
from genkt.retrieval.glyph_gallery import SIDE
from genkt.upstream.upstream_pictures import GlyphUpstream

SHARES = ((1.0, 0.0), (0.9, 0.1), (0.8, 0.2), (0.5, 0.5), (0.0, 1.0))
DRAWS, BORDER, DIGITS, BATCH = 5, 3, 300, 500


def similarities() -> dict[str, float]:
    """Mean cosines of the teacher's features of real digits."""
    images = digits().train.select(range(DIGITS))
    pictures = [images.load(index) for index in range(DIGITS)]
    negatives = [Image.fromarray(255 - np.asarray(picture)) for picture in pictures]
    teacher = load_encoder(EncoderSpec("genkt:digits_teacher"))
    rows, other = (unit(encode_all(teacher, each)) for each in (pictures, negatives))
    cosines, labels = rows @ rows.T, images.labels
    same = labels[:, None] == labels[None]
    return {
        "with its negative": float((rows * other).sum(axis=1).mean()),
        "with others of its class": float(cosines[same & ~np.eye(DIGITS, dtype=bool)].mean()),
        "with other classes": float(cosines[~same].mean()),
    }


def unit(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows of unit length."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def is_dark(picture: NDArray[np.uint8]) -> bool:
    """Whether the outermost pixels are darker than grey."""
    inner = np.zeros(picture.shape[:2], dtype=bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    return bool(picture.mean(axis=2)[~inner].mean() < 127.5)


def gallery(settings: dict[str, int]) -> tuple[list[str], float]:
    """The class of every glyph as it was drawn, and the share of dark grounds."""
    upstream = GlyphUpstream(BATCH, derive_seed(settings["seed"], "gallery"), SIDE)
    labels, dark = list[str](), list[bool]()
    for pictures, classes in upstream.iterate(0, settings["num_images"] // BATCH):
        labels += [upstream.classes[label] for label in classes.tolist()]
        dark += [is_dark(picture) for picture in pictures.permute(0, 2, 3, 1).numpy()]
    return labels, float(np.mean(dark))


def main() -> None:
    text = (resource("configs") / "retrieval" / "search.yaml").read_text(encoding="utf-8")
    labels, dark = gallery(yaml.safe_load(text)["glyphs"])
    results: dict[str, Any] = {"cosine": similarities(), "gallery, dark ground": dark}
    train = digits().train
    names = {id_: train.classes[label] for id_, label in zip(train.ids, train.labels, strict=True)}
    with tempfile.TemporaryDirectory() as home:
        for shares in SHARES:
            found = [
                genkt.retrieve(
                    encoder={"shares": list(shares)}, draw=draw, device="cpu",
                    store=f"{home}/store", out=f"{home}/{shares}/{draw}",
                )
                for draw in range(DRAWS)
            ]  # fmt: skip
            rows = [(each, row) for each in found for row in range(len(each))]
            pictures = [np.asarray(each.images.load(row)) for each, row in rows]
            right = []
            for each in found:
                for record in each.records():
                    place = Path((record.detail or {})["image"].partition("#")[0]).name
                    right.append(labels[int(place)] == names[record.parent or ""])
            results[f"pixels {shares[1]:.0%}"] = {
                "dark ground": float(np.mean([is_dark(picture) for picture in pictures])),
                "class of the query": float(np.mean(right)),
            }
    report("retrieval_style", results, {"dark ground": "1, as real digits have"})


if __name__ == "__main__":
    main()
