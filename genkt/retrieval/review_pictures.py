"""The pictures of the review page: suspects beside images of the data."""

from __future__ import annotations

from collections.abc import Sequence

from genkt.data.crops import make_crop
from genkt.data.splits import Splits
from genkt.retrieval.choose_rows import Chosen, RetrievalChoice, named_parts
from genkt.retrieval.leaks import Neighbour, Suspect
from genkt.retrieval.review_page import ReviewRow, Shown


def review_rows(
    suspects: Sequence[Suspect], choice: RetrievalChoice, chosen: Chosen, splits: Splits | None
) -> list[ReviewRow]:
    """What the review page shows of every suspect."""
    parts = named_parts(splits.parts) if splits is not None else {}
    encoders = [encoder.name for encoder in choice.embedder.encoders]
    places = choice.image_places(chosen.ordering.rows)
    rows = []
    for suspect in suspects:
        best = ", ".join(
            f"{name} {max(near.scores[number] for near in suspect.neighbours):.3f}"
            for number, name in enumerate(encoders)
        )
        rows.append(
            ReviewRow(
                suspect.image_id,
                f"largest similarity: {best}",
                _own(suspect, choice, chosen, int(places[suspect.place])),
                tuple(_near(near, choice, parts, encoders) for near in suspect.neighbours),
            )
        )
    return rows


def _own(
    suspect: Suspect, choice: RetrievalChoice, chosen: Chosen, image: int
) -> tuple[Shown, ...]:
    """The crop, where there is one, and the whole image."""
    gallery, crops = choice.inputs.gallery, choice.settings.crops
    picture = gallery.load(image)
    whole = Shown(picture, "retrieved", f"{picture.width} x {picture.height}")
    if not crops.per_image:
        return (whole,)
    index = int(chosen.ordering.rows[suspect.place]) % crops.per_image
    crop = make_crop(picture, crops, suspect.image_id, index)
    return (Shown(crop.picture, "retrieved crop", ", ".join(crop.operations)), whole)


def _near(
    near: Neighbour, choice: RetrievalChoice, parts: dict[str, str], encoders: Sequence[str]
) -> Shown:
    images = choice.inputs.reference
    sample_id = images.ids[near.row]
    name, _, content = sample_id.rpartition("#")
    scores = (
        f"{near.scores[0]:.3f}"
        if len(encoders) == 1
        else ", ".join(
            f"{_short(each)} {score:.3f}" for each, score in zip(encoders, near.scores, strict=True)
        )
    )
    return Shown(images.load(near.row), parts.get(content, "data"), f"{scores} · {name}")


def _short(name: str) -> str:
    """An encoder's name without where it comes from."""
    return name.rpartition(":")[2].partition(".")[0]
