"""Features and answers of every model on the data, from a single pass."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genkt.config.analysis_settings import AnalyzeConfig
from genkt.data.images import ImageSet, Skipped
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.inference.evaluate_model import labelled_part
from genkt.inference.load_classifier import (
    Classifier,
    class_places,
    device_of,
    load_classifier,
    model_name,
)
from genkt.models.backbone import Backbone
from genkt.progress import Reporter
from genkt.runs.pool import chosen_images, load_splits
from genkt.training.predictions import outputs
from genkt.transfer_set.composition import TransferSet
from genkt.types import ModelOutput, UserError

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """The images that every model sees.

    Args:
        train: for probes, LogME and class means.  analysed: the chosen part.
        other: images to measure a distance from, without labels.
        skipped: files that could not be read.
        notes: on the data, see ``Splits``.
    """

    train: ImageSet
    analysed: ImageSet
    other: ImageSet | None
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        """C names, as the data number them."""
        return self.analysed.classes

    @property
    def groups(self) -> Sequence[str] | None:
        """[N] what each image of the analysed part belongs to; None where each stands alone."""
        return self.analysed.groups

    @property
    def labels(self) -> Labels:
        """[N] of the analysed part."""
        return self.analysed.labels


@dataclass(frozen=True)
class Features:
    """[T, D], [N, D], [K, D] float32 of the parts' images; ``other`` None without such images."""

    train: Tensor
    analysed: Tensor
    other: Tensor | None


@dataclass(frozen=True)
class ModelAnswers:
    """A classifier's answers on the analysed part.

    Args:
        predicted: [N] over the classes it answers among; 0..C-1 are the data's, and the same
            name has the same number with every model.
        logits: [N, C] of the data's classes alone.
    """

    predicted: Labels
    logits: Tensor


@dataclass(frozen=True)
class Collected:
    """One model, seen once.

    Args:
        answers: None if its head is not for these classes; ``note`` says why.
    """

    name: str
    num_parameters: int
    features: Features
    answers: ModelAnswers | None
    note: str = ""


def read_parts(config: AnalyzeConfig) -> Parts:
    """The images of the settings.

    Raises:
        UserError: a part that is not there or is empty, or labels that cannot be drawn.
    """
    splits = load_splits(config.data, config.seed)
    chosen = chosen_images(config.data, splits, config.probe_on, seed=config.seed, draw=0)
    train = _with_labels(chosen)
    analysed = _with_labels(labelled_part(splits, config.split))
    for name, images in ((config.split, analysed), ("train", train)):
        if not len(images):
            raise UserError(f'split "{name}": expected labelled images, got none')
    if len(splits.classes) < 2:
        raise UserError(f"data: expected two classes or more, got {len(splits.classes)}")
    other = None if config.other is None else _others(config.other)
    more = () if other is None else other.skipped
    skipped = tuple(dict.fromkeys([*splits.skipped, *more]))
    return Parts(train, analysed, other, skipped, splits.notes)


def _others(place: str) -> ImageSet:
    try:
        return TransferSet.open(place).images
    except UserError as error:
        raise UserError(f"other: {error}") from error


def _with_labels(images: ImageSet) -> ImageSet:
    return images.select(np.flatnonzero(images.labels >= 0))


@dataclass
class Collector:
    """Runs models over the parts, each model only once.

    Args:
        among: the classes that a model chooses from: all its classes, or only those of the data.
        batch_size: images per forward pass.  device: auto, cpu or cuda.
    """

    parts: Parts
    among: Literal["all", "data"]
    batch_size: int
    device: str
    _numbers: dict[str, int] = field(default_factory=dict)
    _seen: dict[tuple[str, str], tuple[Features, Tensor]] = field(default_factory=dict)

    def collect(self, name: str) -> Collected:
        """Load a model and take its outputs.

        Raises:
            UserError: no such model, or outputs that are not finite.
        """
        classifier = load_classifier(name)
        model = classifier.model
        features, logits = self._outputs(model)
        answers, note = None, ""
        try:
            answers = self._answers(classifier, logits)
        except UserError as error:
            note = f"{name}: features alone, as its head is not for these classes ({error})"
        return Collected(name, model.num_parameters, features, answers, note)

    def features(self, model: Backbone) -> Features:
        """The features of a model that cannot classify these data."""
        return self._outputs(model)[0]

    def _outputs(self, model: Backbone) -> tuple[Features, Tensor]:
        """The features of all parts, and the logits of the analysed one."""
        key = (model.fingerprint(), json.dumps(model.transform.as_dict(), sort_keys=True))
        if key not in self._seen:
            train = self._run(model, self.parts.train)
            same = self.parts.train.ids == self.parts.analysed.ids
            analysed = train if same else self._run(model, self.parts.analysed)
            assert analysed.logits is not None
            other = None
            if self.parts.other is not None:
                other = self._run(model, self.parts.other).features
            found = Features(train.features, analysed.features, other)
            self._seen[key] = (found, analysed.logits)
        return self._seen[key]

    def _run(self, model: Backbone, images: ImageSet) -> ModelOutput:
        dataset = ViewDataset(images, FIXED_VIEW, [model.transform], memory_bytes=0)
        device = device_of(self.device)
        with Reporter(len(images), model.name, announced=True) as reporter:
            return outputs(
                model.to(device), dataset, batch_size=self.batch_size, device=device,
                progress=reporter.advance,
            )  # fmt: skip

    def _answers(self, classifier: Classifier, logits: Tensor) -> ModelAnswers:
        classes = self.parts.classes
        if not classifier.model.classifier_parameters():
            raise UserError(f"model {classifier.model.name}: has no head")
        places = class_places(classifier, classes)
        if not self._numbers:
            self._numbers = {name: number for number, name in enumerate(classes)}
        known = logits[:, torch.from_numpy(places)]
        if self.among == "data":
            return ModelAnswers(known.argmax(dim=1).numpy(), known)
        names = classifier.classes or classes
        numbers = [self._numbers.setdefault(name, len(self._numbers)) for name in names]
        return ModelAnswers(np.array(numbers, dtype=np.int64)[logits.argmax(dim=1).numpy()], known)


def check_models(names: Sequence[str]) -> None:
    """Refuse missing models before any is built.

    Raises:
        UserError: one line per model.
    """
    faults = []
    for name in names:
        try:
            model_name(name)
        except UserError as error:
            faults.append(f"models: {error}")
    if faults:
        raise UserError("\n".join(faults))
