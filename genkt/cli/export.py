"""``genkt export RUN``."""

from __future__ import annotations

from pathlib import Path

from genkt.cli.app import read_config
from genkt.cli.positional import with_positionals
from genkt.config.command_settings import ExportConfig


def run(words: list[str]) -> None:
    """Write the ONNX file and say how close it is to torch."""
    config = read_config(ExportConfig, "export", with_positionals(words, "run"))
    from genkt.disk import output_file
    from genkt.inference.load_classifier import load_student
    from genkt.inference.onnx_export import export_onnx
    from genkt.inference.snippets import onnx_snippet

    path = output_file(config.output or Path(config.run) / "student" / "model.onnx")
    done = export_onnx(
        load_student(config.run), path, opset=config.opset, tolerance=config.tolerance
    )
    shape = ", ".join(map(str, done.input_shape))
    print(f"{done.path}: images [batch, {shape}] -> logits")
    print(f"largest difference between onnxruntime and torch: {done.max_difference:.1e}")
    student = str((Path(config.run) / "student").resolve())
    print("", onnx_snippet(student, str(done.path.resolve())), sep="\n")
