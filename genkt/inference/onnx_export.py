"""A finished model as an ONNX file, checked against torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genkt.inference.load_classifier import Classifier
from genkt.inference.snippets import preprocessing
from genkt.io import atomic_path
from genkt.models.backbone import Backbone
from genkt.types import ModelOutput, UserError


class _Logits(nn.Module):
    """Maps images to logits, for the ONNX export."""

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

    Input "images" [B, 3, H, W] float32; output "logits" [B, C]. The file's metadata says how
    pictures become that input: in words (``preprocessing``), and as mean, std, size and so on.

    Raises:
        UserError: the onnx extra is not installed, or the two disagree by more than ``tolerance``.
    """
    # Set before its import: it would write an id of this device into the home folder, and send it.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnx
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install 'genkt[onnx]'") from error
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise UserError(f"opset: expected at most {newest}, the newest of this onnx, got {opset}")
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
        _forget_code(graph.graph, *graph.functions)
        _describe(graph, classifier)
        onnx.save(graph, str(temporary))
        written = max(each.version for each in graph.opset_import if not each.domain)
        if written != opset:  # torch keeps the old opset if it cannot convert
            raise UserError(
                f"opset: torch could write {written}, not {opset}; give opset={written}; nothing "
                "was written"
            )
        difference = _difference(str(temporary), model, images, opset)
        if not difference <= tolerance:
            raise UserError(
                f"export: onnxruntime differs from torch by {difference:.2g} "
                f"(allowed {tolerance:g}); nothing was written"
            )
    return Exported(path, difference, tuple(images.shape[1:]))


def _difference(file: str, model: nn.Module, images: Tensor, opset: int) -> float:
    """The largest difference of onnxruntime's logits from torch's, one image and several."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class
        raise UserError(
            f"opset: onnxruntime {onnxruntime.__version__} cannot run a file of opset {opset}; "
            "give a smaller one; nothing was written"
        ) from error
    difference = 0.0
    for count in (1, len(images)):
        found = session.run(None, {"images": images[:count].numpy()})[0]
        with torch.inference_mode():
            expected = model(images[:count]).numpy()
        difference = max(difference, float(np.abs(found - expected).max()))
    return difference


def _forget_code(*parts: Any) -> None:
    """Remove torch's notes on the code of each node: paths of this machine, class names."""
    for part in parts:
        part.ClearField("metadata_props")
        for field in ("node", "value_info", "input", "output", "initializer"):
            for item in getattr(part, field, ()):
                if hasattr(item, "metadata_props"):  # a function's inputs are bare names
                    item.ClearField("metadata_props")
                    item.ClearField("doc_string")
        for node in part.node:
            _forget_code(*(each.g for each in node.attribute if each.HasField("g")))


def _describe(graph: Any, classifier: Classifier) -> None:
    """Put class names and the input transform into the file."""
    import onnx

    transform = classifier.model.transform.as_dict()
    facts = {
        "classes": list(classifier.classes),
        "preprocessing": preprocessing(classifier.model.transform),
        **transform,
    }
    onnx.helper.set_model_props(graph, {k: json.dumps(v) for k, v in facts.items()})
