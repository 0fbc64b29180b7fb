"""Makes such files as lie beside it, in an empty folder: see README.md.

python tests/before/make.py /before
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import genkt
from genkt.transfer_set.set_files import ImageFiles

NET = "{layers: [1,1,1,1], channels: [4,4,8,8], stem_type: deep, stem_width: 4}"
TRANSFORM = (
    "{input_size: [24,24], mean: [0.5,0.5,0.5], std: [0.5,0.5,0.5], crop_pct: 1.0, "
    "interpolation: bilinear}"
)


def model(group: str) -> list[str]:
    """A tiny network as the student, the teacher or the encoder; its weights lie in a file."""
    return [
        f"{group}=resnet18", f"{group}.pretrained=false", f"{group}.weights=weights.safetensors",
        f"{group}.args={NET}", f"{group}.transform={TRANSFORM}",
    ]  # fmt: skip


DATA = ["data=folder", "data.root=images", "data.labels_per_class=2"]
BUDGET = [
    "device=cpu", "executor=inline", "cache=teacher_cache", "data.views.num_views=2",
    "train.batch_size=12", "train.labelled_per_batch=4", "train.log_every=1",
    "train.num_workers=0", "finetune.steps=2", "adapt.steps=2",
]  # fmt: skip
TRANSFER = ["transfer", *DATA, *BUDGET, *model("student"), *model("teacher")]
COMMANDS: dict[str, list[str]] = {
    "prime": [
        "prime", "upstream=upstream", "size=16", "eval_every=100", "save_seconds=0", "device=cpu",
        "vqgan.channels=[8,8]", "vqgan.num_codes=16", "vqgan.code_dim=4", "vqgan.steps=3",
        "vqgan.batch_size=8", "vqgan.precision=fp32", "vqgan.perceptual.kind=none",
        "vqgan.gan.channels=4", "vqgan.gan.layers=1", "transformer.layers=1",
        "transformer.heads=2", "transformer.width=16", "transformer.steps=3",
        "transformer.batch_size=8", "transformer.precision=fp32", "out=prime",
    ],
    "synthesized": [
        "synthesize", "images=[images]", "generator=generator", "num_images=12", "shard_size=5",
        "device=cpu", "executor=inline", "out=synthesized",
    ],
    "retrieved": [
        "retrieve", *DATA, "gallery=upstream", *model("encoder"), "encoder.leaks=null",
        "encoder.duplicates=null", "num_images=8", "device=cpu", "executor=inline",
        "shard_size=8", "num_threads=1", "store=embeddings", "out=retrieved",
    ],
    "cache": [
        "cache", *DATA, "data.views.num_views=2", *model("teacher"), "draws=2", "device=cpu",
        "executor=inline", "cache=teacher_cache",
    ],
    "run": [
        *TRANSFER, "draws=2", "train.steps=4", "method=logit_kd", "transfer_set=digg",
        "transfer_set.generator=generator", "transfer_set.num_images=6",
        "transfer_set.num_views=2", "out=run",
    ],
    "interrupted": [
        *TRANSFER, "draws=1", "baseline=false", "train.steps=60", "train.save_seconds=0",
        "method=feature_kd", "teacher.adapt=none", "transfer_set=unlabelled", "out=interrupted",
    ],
    "uninterrupted": [],
    "answers": [
        "predict", "run", "images", "format=json", "top=3", "device=cpu", "output=answers.json",
    ],
    "comparison": [
        "compare", "--config-dir=.", "study=colours", "executor=inline", *DATA, *BUDGET[2:],
        "device=cpu", *model("student"), *model("teacher"), "train.steps=2", "out=comparison",
    ],
}  # fmt: skip
"""What is typed in the folder, one command an artefact."""

COMMANDS["uninterrupted"] = [*COMMANDS["interrupted"][:-1], "out=uninterrupted"]

STUDY = """\
name: colours
title: Colours
words: [draws=2, method=logit_kd, transfer_set=unlabelled]
baseline: stl
reference: null
arms:
  stl: [method=stl, transfer_set=labelled]
  real: []
names: {stl: Plain fine-tuning}
product: {}
sweeps: []
pairs: [[real, stl]]
"""


def write_pictures(root: Path, per_class: int, seed: int) -> None:
    """``root/class/n.png``: noise whose colour says its class."""
    for label, name in enumerate(("cat", "dog", "elk")):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            random = np.random.default_rng([seed, label, number])
            pixels = random.integers(0, 60, (8, 8, 3)).repeat(2, 0).repeat(2, 1)
            pixels[..., label] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")


def write(name: str, value: object) -> None:
    """A JSON file."""
    Path(name).write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def write_weights(path: Path) -> None:
    """Weights of the tiny network, with a head of three classes."""
    torch.manual_seed(0)
    args = {"layers": (1, 1, 1, 1), "channels": (4, 4, 8, 8), "stem_type": "deep", "stem_width": 4}
    net = timm.create_model("resnet18", num_classes=3, **args)
    save_file(net.state_dict(), path)


def run(name: str) -> None:
    """One of the commands, to its end."""
    subprocess.run([sys.executable, "-m", "genkt", *COMMANDS[name]], check=True)


def interrupt(name: str, state: str) -> None:
    """Start a command and end it, as Ctrl-C does, when it has saved a state."""
    process = subprocess.Popen([sys.executable, "-m", "genkt", *COMMANDS[name]])
    while not Path(state).exists():
        assert process.poll() is None, "it ended before it had saved a state"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.wait()
    assert Path(state).exists(), "it ended before it could be interrupted"


def save_mix() -> None:
    """A set that is composed of two others, in tars."""
    made, found = (genkt.TransferSet.open(name) for name in ("synthesized", "retrieved"))
    mixed = genkt.TransferSet.mix({"made": (made, 3), "found": (found, 1)})
    mixed.save("saved", files=ImageFiles(container="tar"), shard_size=12)


def pixels(name: str) -> str:
    """A fingerprint of every picture of a set, in its order."""
    images = genkt.TransferSet.open(name).images
    digest = hashlib.sha256()
    for number in range(len(images)):
        digest.update(np.asarray(images.load(number)).tobytes())
    return digest.hexdigest()


def strip() -> None:
    """Remove what nobody reads again, and names of the machine with it."""
    student = "uninterrupted/draws/0/feature_kd/student.safetensors"
    shutil.copyfile(student, "uninterrupted.safetensors")
    for pattern in ("*.lock", ".locks", "tensorboard", "*.log", "generator/*.png", "uninterrupted"):
        for path in Path().rglob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main(home: str) -> None:
    """All artefacts, one after the other."""
    Path(home).mkdir()
    os.chdir(home)
    Path("study").mkdir()
    Path("study/colours.yaml").write_text(STUDY, encoding="utf-8")
    write_pictures(Path("images"), 6, seed=1)
    write_pictures(Path("upstream"), 8, seed=2)
    write_weights(Path("weights.safetensors"))
    run("prime")
    shutil.copytree("prime/generator", "generator")
    shutil.rmtree("prime")
    for name in ("synthesized", "retrieved", "cache", "run"):
        run(name)
    save_mix()
    interrupt("interrupted", "interrupted/draws/0/feature_kd/distil/state.pt")
    run("uninterrupted")
    run("comparison")
    run("answers")
    sets = ("synthesized", "retrieved", "saved", "run/transfer_sets/1")
    write("pixels.json", {name: pixels(name) for name in sets})
    made = {"genkt": metadata.version("genkt"), "torch": torch.__version__}
    made |= {"python": platform.python_version(), "timm": timm.__version__}
    write("made_with.json", made)
    strip()


if __name__ == "__main__":
    main(sys.argv[1])
