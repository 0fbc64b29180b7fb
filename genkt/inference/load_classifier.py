"""Finished models: load a run's student, predict images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genkt.data.images import ImageSet, decode
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.files import SEALS, damaged_files
from genkt.io import home_path, nearby, shown
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model, name_fault
from genkt.training.predictions import predict
from genkt.types import UNLABELLED, Prediction, UserError

Picture = str | Path | bytes | Image.Image
"""An image file, its bytes, or an open picture."""


logger = logging.getLogger("genkt")

_STUDENT = ("student/config.json", "student/model.safetensors")


@dataclass(frozen=True)
class Answer:
    """A classifier's answer for one picture.

    Args:
        label: the most probable class (its number if the names are not known).
        probability: of that class.
        probabilities: [C] float32 of all classes, on the CPU.
    """

    label: str
    probability: float
    probabilities: Tensor


@dataclass(frozen=True)
class Classifier:
    """A model and the names of its classes (empty where unknown).

    Pictures are decoded and resized as in training, whatever they are: turned by their EXIF,
    colours as sRGB, deep grey scaled, transparency laid onto white (``genkt.data.images.decode``).

    >>> model = load_classifier("genkt:digits_teacher")
    >>> blank = Image.new("L", (40, 40))
    >>> model.prepare(blank).shape, model.predict([blank])[0].label in model.names
    (torch.Size([1, 3, 32, 32]), True)
    """

    model: Backbone
    classes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """C class names; numbers if the names are not known."""
        return self.classes or tuple(map(str, range(self.model.num_classes)))

    def prepare(self, pictures: Picture | Sequence[Picture]) -> Tensor:
        """The model's input for some pictures: float32 [N, 3, H, W], normalised.

        Raises:
            UserError: a picture that is not there or cannot be decoded.
        """
        dataset = _rendered(self.model, _image_set(pictures))
        (pixels,) = dataset.batch([(row, 0) for row in range(len(dataset))])
        return self.model.normalize(pixels)

    def predict(
        self, pictures: Picture | Sequence[Picture], *, device: str = "cpu", batch_size: int = 64
    ) -> list[Answer]:
        """An answer for each picture; ``device`` is auto, cpu or cuda.

        Raises:
            UserError: a picture that is not there or cannot be decoded.
        """
        images = _image_set(pictures)
        found = predict_images(self, images, device=device, batch_size=batch_size).probabilities
        best = found.argmax(dim=1).tolist()
        return [
            Answer(self.names[place], float(row[place]), row)
            for place, row in zip(best, found, strict=True)
        ]


@dataclass(frozen=True)
class _PictureOpener:
    pictures: tuple[Picture, ...]

    def __call__(self, sample_id: str, item: int) -> Image.Image:
        return decode(self.pictures[item])


def _image_set(pictures: Picture | Sequence[Picture]) -> ImageSet:
    given = (pictures,) if isinstance(pictures, Picture) else tuple(pictures)
    ids = [
        str(picture) if isinstance(picture, (str, Path)) else f"picture {number}"
        for number, picture in enumerate(given)
    ]
    labels = np.full(len(ids), UNLABELLED)
    return ImageSet(ids, labels, (), np.arange(len(ids)), _PictureOpener(given))


def load_student(run: str | Path) -> Classifier:
    """The exported student of a run folder.

    Raises:
        UserError: no such folder, or a run whose first student is not trained yet.
    """
    return _with_own_head(_student_of(Path(run)), None)


def _student_of(folder: Path) -> str:
    if not folder.is_dir():
        kind = "it is a file" if folder.exists() else f"no such folder{nearby(folder)}"
        raise UserError(f"run {shown(folder)}: {kind}")
    student = folder / "student"
    if not (folder / "run.json").is_file():
        reason = "expected a folder written by genkt transfer (with run.json)"
    elif not (finished := (folder / "report.json").is_file()) and not (folder / SEALS).is_file():
        reason = "its first student is not trained yet; repeat its command to continue the run"
    elif damaged := damaged_files(folder, _STUDENT):
        raise UserError(
            f"{folder / damaged[0]}: damaged or missing, expected the file that its run "
            "wrote; repeat the run's command to make it again"
        )
    elif not (student / "config.json").is_file():
        reason = "its student is not a timm model; load student/model.safetensors with your code"
    else:
        if not finished:
            logger.warning(
                "run %s: has not finished; this is the student that it has so far", folder
            )
        return f"local-dir:{student}"
    raise UserError(f"run {folder}: {reason}")


def load_classifier(name: str | Path, *, weights: str | None = None) -> Classifier:
    """A run folder, an exported model's folder, or a timm, ``local-dir:`` or ``genkt:`` name.

    Args:
        weights: a file to load instead of the weights of the name.

    Raises:
        UserError: nothing of this name, or a run whose first student is not trained yet.
    """
    return _with_own_head(model_name(str(name)), weights)


def model_name(name: str) -> str:
    """What ``load_classifier`` takes, as a name for ``load_model``; nothing is built.

    Raises:
        UserError: nothing of this name, or a run whose first student is not trained yet.
    """
    folder = home_path(name)
    if (folder / "config.json").is_file():
        return f"local-dir:{folder}"
    is_path = name.startswith((".", "/", "~")) or (folder / "run.json").is_file()
    if is_path or (folder.is_dir() and name_fault(name)):
        return _student_of(folder)
    if "/" in name and ":" not in name:
        raise UserError(f'model "{name}": no such folder; a hub name is written hf-hub:{name}')
    if fault := name_fault(name):
        raise UserError(fault)
    return name


def _with_own_head(name: str, weights: str | None) -> Classifier:
    model = load_model(ModelSpec(name, weights=weights))
    return Classifier(model.freeze(), model.class_names)


def device_of(name: str) -> str:
    """The device, with ``auto`` resolved."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def predict_images(
    classifier: Classifier, images: ImageSet, *, device: str = "cpu", batch_size: int = 64
) -> Prediction:
    """Class probabilities of every picture; ``device`` is auto, cpu or cuda."""
    device = device_of(device)
    model = classifier.model.to(device)
    return predict(model, _rendered(model, images), device=device, batch_size=batch_size)


def _rendered(model: Backbone, images: ImageSet) -> ViewDataset:
    return ViewDataset(images, FIXED_VIEW, [model.transform], memory_bytes=0)


def aligned_labels(classifier: Classifier, images: ImageSet) -> ImageSet:
    """The images with labels numbered as the model's classes.

    Raises:
        UserError: the model's class names are known and are not those of the images, or it has
            another number of classes.
    """
    index = class_places(classifier, images.classes)
    if not classifier.classes:
        return images
    labels = np.where(images.labels >= 0, index[images.labels], images.labels)
    return images.replaced(labels=labels, classes=classifier.classes)


def class_places(classifier: Classifier, classes: Sequence[str]) -> NDArray[np.int64]:
    """[C] the model's own number of each class of some data.

    Raises:
        UserError: as ``aligned_labels``.
    """
    model, names = classifier.model, classifier.classes
    if unknown := [name for name in classes if names and name not in names]:
        raise UserError(
            f"model {model.name}: does not know the classes {', '.join(unknown[:5])} "
            f"(it knows {', '.join(names[:8])}{' ...' if len(names) > 8 else ''})"
        )
    if names:
        places = {name: place for place, name in enumerate(names)}
        return np.array([places[name] for name in classes], dtype=np.int64)
    if model.num_classes != len(classes):
        raise UserError(
            f"model {model.name}: has {model.num_classes} classes, the data {len(classes)}"
        )
    return np.arange(len(classes), dtype=np.int64)


def top_classes(classifier: Classifier, prediction: Prediction, top: int) -> list[dict[str, Any]]:
    """One row per image: path, label, probability, and the ``top`` most probable classes."""
    names = classifier.names
    top = min(top, len(names))
    rows = []
    for sample_id, probabilities in zip(prediction.ids, prediction.probabilities, strict=True):
        values, indices = probabilities.topk(top)
        best = [
            {"label": names[int(i)], "probability": round(float(v), 6)}
            for v, i in zip(values, indices, strict=True)
        ]
        rows.append({"image": sample_id.rpartition("#")[0], **best[0], "top": best})
    return rows
