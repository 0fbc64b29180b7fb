"""Code to copy for using a finished student, and instructions for use without genkt."""

from __future__ import annotations

import textwrap
from pathlib import Path

from genkt.data.transform import ImageTransform
from genkt.models.backbone import Backbone

IMAGE = "IMAGE.png"
"""Placeholder for the user's picture in the snippets."""

_DECODING = (
    "upright by its EXIF orientation, colours as sRGB by its colour profile, 16-bit grey scaled "
    "by its full range, transparency laid onto white, as 8-bit RGB"
)
_PREDICT = f"""\
for answer in student.predict([{IMAGE!r}]):  # pictures are decoded as in training
    print(answer.label, answer.probability)"""


def student_snippet(run: Path, student: Backbone) -> str:
    """Code that loads a run's exported student and predicts one picture as ``genkt predict`` does.

    Args:
        run: the run folder.  student: the exported model.
    """
    folder = (run / "student").resolve()
    if student.is_timm:
        return f"{load_snippet(str(folder))}\n\n{timm_snippet(str(folder))}"
    return f"""\
import json
from pathlib import Path
import genkt
from safetensors.torch import load_file
# model: built by your own code, as the student that you gave
model.load_state_dict(load_file({str(folder / "model.safetensors")!r}))
report = json.loads(Path({str(folder.parent / "report.json")!r}).read_text(encoding="utf-8"))
transform = genkt.{student.transform!r}
student = genkt.Classifier(
    genkt.Backbone(model, transform, {student.name!r}).freeze(), tuple(report["classes"])
)
{_PREDICT}"""


def load_snippet(folder: str) -> str:
    """Code that predicts with an exported model, pictures decoded as in training."""
    return f"import genkt\nstudent = genkt.load_classifier({folder!r})\n{_PREDICT}"


def timm_snippet(folder: str) -> str:
    """Code that loads an exported model without genkt, and what is left to do."""
    said = (
        "Where genkt is not installed, timm alone loads the model. Its transforms resize and "
        f"normalise, they do not decode: make the picture {_DECODING}."
    )
    comment = textwrap.fill(said, 88, initial_indent="# ", subsequent_indent="# ")
    name = f"local-dir:{folder}"
    return f"{comment}\nimport timm\nmodel = timm.create_model({name!r}, pretrained=True).eval()"


def onnx_snippet(folder: str, path: str) -> str:
    """Code that runs an ONNX file on a picture decoded and resized as in training."""
    return f"""\
import genkt, onnxruntime
images = genkt.load_classifier({folder!r}).prepare([{IMAGE!r}])  # as in training
session = onnxruntime.InferenceSession({path!r})
logits = session.run(None, {{"images": images.numpy()}})[0]"""


def preprocessing(transform: ImageTransform) -> str:
    """How any picture becomes the model's input, in words."""
    height, width = transform.input_size
    return (
        f"Decode the picture {_DECODING}. {transform.resizing()} "
        f"Divide by 255, subtract mean {list(transform.mean)}, divide by std "
        f"{list(transform.std)}: float32 [3, {height}, {width}], channels red, green, blue."
    )
