"""Finished models at work: load a run's student, predict images, evaluate, export to ONNX."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genkt.data.images import ImageSet
from genkt.data.views import FIXED_VIEW, ViewDataset
from genkt.io import atomic_path
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model, name_fault
from genkt.training.evaluate import predict
from genkt.types import ModelOutput, Prediction, UserError


@dataclass(frozen=True)
class Classifier:
    """A model and the names of its classes (empty where unknown)."""

    model: Backbone
    classes: tuple[str, ...]


def load_student(run: str | Path) -> Classifier:
    """The exported student of a run folder.

    Raises:
        UserError: no such folder, or a run that has not finished.
    """
    return _with_own_head(_student_of(Path(run)), None)


def _student_of(folder: Path) -> str:
    if not folder.is_dir():
        raise UserError(f"run {folder}: no such folder")
    student = folder / "student"
    if not (folder / "run.json").is_file():
        reason = "expected a folder written by genkt transfer (with run.json)"
    elif not (folder / "report.json").is_file():
        reason = "its run has not finished; repeat its command to continue it"
    elif not (student / "config.json").is_file():
        reason = "its student is not a timm model; load student/model.safetensors with your code"
    else:
        return f"local-dir:{student}"
    raise UserError(f"run {folder}: {reason}")


def load_classifier(name: str, weights: str | None = None) -> Classifier:
    """A run folder, an exported model's folder, or a timm, ``local-dir:`` or ``genkt:`` name.

    Raises:
        UserError: nothing of this name, or an unfinished run.
    """
    return _with_own_head(model_name(name), weights)


def model_name(name: str) -> str:
    """What ``load_classifier`` takes, as a name for ``load_model``; nothing is built.

    Raises:
        UserError: nothing of this name, or an unfinished run.
    """
    folder = Path(name).expanduser()
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
    """``auto`` as the device it stands for here."""
    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def predict_images(
    classifier: Classifier, images: ImageSet, *, device: str = "cpu", batch_size: int = 64
) -> Prediction:
    """Class probabilities of every picture; ``device`` is auto, cpu or cuda."""
    dataset = ViewDataset(images, FIXED_VIEW, [classifier.model.transform], memory_bytes=0)
    device = device_of(device)
    model = classifier.model.to(device)
    return predict(model, dataset, device=device, batch_size=batch_size)


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
    names = classifier.classes
    return ImageSet(images.ids, labels, names, images.items, images.open_item, images.skipped)


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


class _Logits(nn.Module):
    """Images to logits, which is what ONNX takes."""

    def __init__(self, model: Backbone) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        output: ModelOutput = self.model(images)
        assert output.logits is not None
        return output.logits


@dataclass(frozen=True)
class Exported:
    """An ONNX file and how far its logits are from torch's on random images."""

    path: Path
    max_difference: float
    input_shape: tuple[int, ...]


def export_onnx(
    classifier: Classifier, path: str | Path, *, opset: int = 18, tolerance: float = 1e-3
) -> Exported:
    """Write the model as ONNX (dynamic batch) and check it against torch with onnxruntime.

    Input "images" [B, 3, H, W] float32, normalised as the file's metadata says (mean, std);
    output "logits" [B, C].

    Raises:
        UserError: the onnx extra is not installed, or the two disagree by more than ``tolerance``.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install 'genkt[onnx]'") from error
    path, model = Path(path), _Logits(classifier.model.freeze().cpu()).eval()
    size = classifier.model.transform.input_size
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, *size, generator=generator)
    with atomic_path(path) as temporary:
        batch = torch.export.Dim("batch", min=1)
        torch.onnx.export(
            model, (images,), str(temporary), input_names=["images"], output_names=["logits"],
            dynamic_shapes={"images": {0: batch}}, opset_version=opset, dynamo=True,
            external_data=False, verbose=False,
        )  # fmt: skip
        graph = onnx.load(str(temporary))
        _describe(graph, classifier)
        onnx.save(graph, str(temporary))
        session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        difference = 0.0
        for count in (1, 3):
            found = session.run(None, {"images": images[:count].numpy()})[0]
            with torch.inference_mode():
                expected = model(images[:count]).numpy()
            difference = max(difference, float(np.abs(found - expected).max()))
        if not difference <= tolerance:
            raise UserError(
                f"export: onnxruntime differs from torch by {difference:.2g} "
                f"(allowed {tolerance:g}); nothing was written"
            )
    return Exported(path, difference, tuple(images.shape[1:]))


def _describe(graph: Any, classifier: Classifier) -> None:
    """Put class names and the input transform into the file."""
    import onnx

    transform = classifier.model.transform.as_dict()
    facts = {"classes": list(classifier.classes), **transform}
    onnx.helper.set_model_props(graph, {k: json.dumps(v) for k, v in facts.items()})


def top_classes(classifier: Classifier, prediction: Prediction, top: int) -> list[dict[str, Any]]:
    """One row an image: path, label, probability, and the ``top`` most probable classes."""
    names: Sequence[str] = classifier.classes or [
        str(index) for index in range(classifier.model.num_classes)
    ]
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
