"""Accuracy of any model on any labelled set, with its interval and by class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genkt.config.command_settings import EvaluateConfig
from genkt.data.images import ImageSet, Skipped, content_of
from genkt.data.splits import Splits
from genkt.files import damaged_files
from genkt.inference.load_classifier import aligned_labels, load_classifier, predict_images
from genkt.io import read_json, reading
from genkt.metrics.intervals import ScoreInterval, paired_interval
from genkt.metrics.scored_arms import DrawDesign, of_arm
from genkt.metrics.verdicts import few_images, span
from genkt.runs.pool import load_splits
from genkt.types import DamagedError, Prediction, UserError, counted


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one model on one labelled part; ``skipped`` files could not be read.

    Args:
        notes: on the data, see ``Splits``, and on images that a run may have been trained on.
        groups: [N] what each image belongs to, where the data have groups.
    """

    model: str
    split: str
    classes: tuple[str, ...]
    prediction: Prediction
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None

    @property
    def accuracy(self) -> float:
        """Share of right answers, 0..1."""
        return self.prediction.accuracy

    def by_class(self) -> dict[str, tuple[int, int]]:
        """Class -> (right, all), for the classes that occur."""
        labels, predicted = self.prediction.labels, self.prediction.predicted
        found = {}
        for index, name in enumerate(self.classes):
            mine = labels == index
            if count := int(mine.sum()):
                found[name] = (int((predicted[mine] == index).sum()), count)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        found = self.interval()
        return {
            "model": self.model,
            "split": self.split,
            "accuracy": self.accuracy,
            "interval_95": None if found is None else [found.low, found.high],
            "num_images": len(self.prediction.ids),
            "num_groups": None if self.groups is None else len(set(self.groups)),
            "notes": list(self.notes),
            "skipped": [{"path": entry.path, "reason": entry.reason} for entry in self.skipped],
            "by_class": {
                name: {"right": right, "images": count}
                for name, (right, count) in self.by_class().items()
            },
        }

    def interval(self) -> ScoreInterval | None:
        """Accuracy with its 95 % interval over images (or groups), of this model alone.

        None with fewer than two of them.
        """
        return of_arm({(0, 0): self.prediction.scores}, DrawDesign(groups=self.groups))

    def minus(self, other: Evaluation) -> ScoreInterval:
        """The accuracy of this model minus that of another one on the same images.

        Its 95 % interval is over images (or groups), of these two models alone.

        Raises:
            UserError: the other one was evaluated on other images, or there are fewer than two.
        """
        if self.prediction.ids != other.prediction.ids:
            raise UserError(
                f"evaluations: expected the same images, got {len(self.prediction.ids):,} of "
                f"{self.model} and {len(other.prediction.ids):,} others of {other.model}"
            )
        scores = ([each.prediction.scores] for each in (self, other))
        return paired_interval(*scores, groups=self.groups)

    def _over(self) -> str:
        """What the interval is over, where it is not single images."""
        if self.groups is None:
            return ""
        return f", over {counted(len(set(self.groups)), 'group of images')}"

    def text(self) -> str:
        """For the terminal."""
        found, width = self.interval(), max(map(len, self.classes))
        shown = "" if found is None else f" (95 % interval {span(found, 'model')}{self._over()})"
        lines = [
            f"{self.model} on {len(self.prediction.ids)} {self.split} images: "
            f"{100 * self.accuracy:.1f} %{shown}"
        ]
        lines += few_images(found) if found is not None else ()
        lines += [
            f"  {name:<{width}}  {100 * right / count:5.1f} %  ({right} of {count})"
            for name, (right, count) in self.by_class().items()
        ]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  left out: {entry.path}: {entry.reason}" for entry in self.skipped]
        return "\n".join(lines)


def evaluate(settings: EvaluateConfig) -> Evaluation:
    """Evaluate a model with its own head on a labelled part of a data set.

    Raises:
        UserError: the part is missing, or the model's classes are not those of the data.
    """
    splits = load_splits(settings.data, settings.seed)
    part = labelled_part(splits, settings.split)
    classifier = load_classifier(settings.model, weights=settings.weights)
    images = aligned_labels(classifier, part)
    prediction = predict_images(
        classifier, images, device=settings.device, batch_size=settings.batch_size
    )
    notes = [*splits.notes, *_perhaps_trained_on(settings.model, settings.split, images)]
    return Evaluation(
        settings.model, settings.split, images.classes, prediction, splits.skipped, tuple(notes),
        groups=part.groups,
    )  # fmt: skip


def _perhaps_trained_on(model: str, split: str, images: ImageSet) -> list[str]:
    """A note on images of a run's own data that it was not tested on: they may be training ones.

    Another seed, fraction or version of genkt may split a folder differently.
    """
    report = Path(model).expanduser() / "report.json"
    if split == "train" or not report.is_file():
        return []
    if damaged_files(report.parent, (report.name,)):
        return [f"{report}: damaged, so it is not known which images the run was tested on."]
    try:
        with reading(report, "a report"):
            predictions = read_json(report, "a report").get("predictions") or {}
            known = set(map(content_of, predictions.get("ids") or ()))
    except DamagedError as error:
        return [f"{error}: it is not known which images the run was tested on."]
    others = [each for each in images.ids if content_of(each) not in known]
    if not others or len(others) == len(images):
        return []
    return [
        f"{len(others):,} of these {len(images):,} images are not among those that the run was "
        f"tested on (e.g. {others[0].rpartition('#')[0]}): if its data were split "
        "differently, it may have been trained on them."
    ]


def labelled_part(splits: Splits, name: str) -> ImageSet:
    """The train, validation or test part of a data set.

    Raises:
        UserError: the data have no such part.
    """
    if name not in splits.parts:
        there = ", ".join(part for part in splits.parts if part != "unlabelled")
        raise UserError(f'split "{name}": not in this data; expected one of {there}')
    return splits.parts[name]
