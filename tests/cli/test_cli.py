"""The command line as a person meets it: pages, messages, exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from refusals import refused
from tiny import model_words, picture, run, transfer_words, tree, write_images
from tqdm import tqdm

from genkt import __version__
from genkt.cli.main import COMMANDS, _dead_loaders_told_once
from genkt.cli.terminal import printing
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.settings.assignments import keys_of
from genkt.transfers.unused import unused

_LIGHT = """
import resource, sys
from genkt.cli.main import main
for words in {words!r}:
    assert main(words) == 0
import genkt
heavy = [n for n in ("torch", "hydra", "timm", "numpy", "PIL", "omegaconf") if n in sys.modules]
used = resource.getrusage(resource.RUSAGE_SELF)
print("\\nHEAVY", heavy, used.ru_utime + used.ru_stime)
"""


def test_every_page_is_light_and_fast() -> None:
    pages = [[], ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    found = subprocess.run(
        [sys.executable, "-c", _LIGHT.format(words=pages)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    heavy, seconds = found.stdout.rpartition("HEAVY ")[2].rsplit(" ", 1)
    assert heavy == "[]"
    assert float(seconds) < 1.0
    for name in COMMANDS:
        assert f"usage: genkt {name}" in found.stdout


_RUN = """
import sys
import genkt.cli.predict
import genkt.config.transfer_settings
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])  # a second, of training
import genkt.transfers.run_transfer
import lightning_fabric.utilities.imports as found
unused = ["torchmetrics", "transformers", "torchvision", "matplotlib", "scipy.stats", "diffusers"]
print([name for name in unused if name in sys.modules], found._TORCHMETRICS_GREATER_EQUAL_1_0_0)
import torchmetrics
"""


def test_a_run_imports_only_what_it_uses() -> None:
    found = subprocess.run([sys.executable, "-c", _RUN], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n[] True\n"  # lightning still knows that torchmetrics is there


_FIRST_STEP = """
import gc, os, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
from genkt.cli.main import main

def stop(*_):
    unused = {unused!r}
    print("FOUND", [name for name in unused if name in sys.modules], flush=True)
    print("FROZEN", gc.isenabled(), gc.get_freeze_count() > 100_000, flush=True)
    os._exit(0)

register_optimizer_step_post_hook(stop)
main({words!r})
"""

_NOT_BEFORE_TRAINING = (
    "torchmetrics", "transformers", "matplotlib", "diffusers", "onnx", "onnxruntime", "skimage",
    "sklearn", "tensorboard", "datasets", "pandas", "scipy.special", "scipy.sparse", "scipy.stats",
    "scipy.ndimage", "scipy.linalg",
)  # fmt: skip


def test_nothing_else_is_loaded_before_the_first_step(tmp_path: Path) -> None:
    words = transfer_words(tmp_path, "method=feature_kd", "baseline=false")
    code = _FIRST_STEP.format(unused=_NOT_BEFORE_TRAINING, words=words)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "FOUND []\nFROZEN True True\n" in found.stdout, found.stderr


def test_python_dash_m_works_from_anywhere(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "genkt", "--version"]
    found = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (found.returncode, found.stdout.strip()) == (0, __version__)


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m genkt transfer --help | head -1"
    found = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert found.stdout.count("\n") == 1 and found.stderr == ""


def test_the_pages() -> None:
    assert "transfer" in run().out and "usage: genkt COMMAND" in run("help").out
    page = run("help", "transfer").out
    assert page == run("transfer", "-h").out == run("transfer", "help").out
    for expected in ("train:", "lr: 2.0e-3", "data=folder", "method=aft", "temperature: 1.0"):
        assert expected in page
    ran = run("tranfer")
    assert ran.code == 2 and "Did you mean transfer" in ran.err
    assert run("xyz").err.startswith('genkt: "xyz": not a command. Commands: transfer')


def test_all_faults_at_once_and_nothing_written(tmp_path: Path) -> None:
    ran = run(
        "transfer", "what", "--overwrite", "data=folder", "data.root=/no/such folder, here",
        "student=resnet1888", "teacher=[resnet18,resnt34]", "method=afft", "train.lrr=1",
        "train.lr=-1", "train.steps=many", "draws=0", "seed=1.5", "device=gpu", "baseline=maybe",
        "train.optimizer=adamm", "teacher.weights=/nope.pth", f"out={tmp_path / 'run'}",
    )  # fmt: skip
    assert ran.code == 2 and ran.out == ""
    lines = [line.removeprefix("genkt transfer: ") for line in ran.err.splitlines()]
    assert len(lines) == len(ran.lines) == 15
    for start in (
        "--overwrite",
        '"what"',
        "data.root: no such folder: /no/such folder, here",
        'student: model "resnet1888": not a timm model. Did you mean resnet18',
        'teacher: model "resnt34": not a timm model. Did you mean resnet34',
        "method=afft: expected one of aft, ",
        "train.lrr: unknown setting. Did you mean train.lr",
        "train.lr: expected a number above 0, at most 1000 or auto, got -1",
        'train.steps: expected a whole number or auto or null, got "many"',
        "draws: expected a number 1 .. 10000 or auto, got 0",
        "seed: expected a whole number, got 1.5",
        'device: expected one of cpu, auto, cuda, got "gpu"',
        'baseline: expected true or false, got "maybe"',
        "train.optimizer: expected one of adam",
        "teacher.weights: no such file: /nope.pth",
    ):
        assert any(line.startswith(start) for line in lines), start
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["data=folder", "data.root=/nope/a=b"], "data.root: no such folder: /nope/a=b"),
        (["data.root=x"], "data.root: unknown setting."),
        (["student=embeded"], "Did you mean student=embedded?"),
        (["student=a/b"], "local-dir:a/b or hf-hub:a/b"),
        (["teacher=genkt:nope"], 'teacher: model "genkt:nope": not shipped with genkt'),
        (["train.steps=null"], "train.steps: null counts in epochs: give train.epochs above 0"),
        (["train.batch_size=8"], "train.labelled_per_batch: expected less than train.batch_size"),
        (["data.label_fraction=0.5"], "data.label_fraction: expected one way to choose labels"),
        (["data.views.crop_scale=[0.5,3]"], "data.views.crop_scale: expected a number from 0 to 1"),
        (["train.lr=1e-3,2e-3"], "(a list is written [a,b]; to run each value, add -m)"),
        (["-m", "train.lr=1e-3,x"], 'train.lr: expected a number or auto, got "x"'),
        (["method.beta=1"], "method.beta: unknown setting."),
        (["method=aft", "method.kernel=lin"], "method.kernel: expected one of linear, rbf"),
        (["data.label_list=/no.txt", "data.labels_per_class=null"], "data.label_list: no such"),
    ],
)  # fmt: skip
def test_messages(words: list[str], expected: str, tmp_path: Path) -> None:
    tiny = [*model_words("teacher"), f"out={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}"]
    ran = run("transfer", *tiny, *words)
    assert ran.code == 2 and len(ran.lines) == len(ran.err.splitlines()) == 1, ran.err
    assert expected in ran.err
    assert not list(tmp_path.iterdir())


def own_validation(home: Path) -> list[str]:
    """Data with a val folder and no test folder: no test part is carved then."""
    for part in ("train", "val"):
        write_images(home / "parts" / part)
    return [f"data.root={home / 'parts'}"]


def test_what_only_data_and_models_show_leaves_nothing_behind(tmp_path: Path) -> None:
    for words, expected in (
        (["student.args={nope: 1}"], 'model "resnet18": timm does not take these args'),
        (["data.labels_per_class=99"], "per_class=99 is more than some classes have"),
        (["data.labels_per_class=null"], "all training images are labelled and there are no"),
        (["train.select=best", "data.validation_fraction=0"], "train.select: best needs validat"),
        (["data.test_fraction=0", "data.validation_fraction=0"], "no test images"),
        (own_validation(tmp_path), "no validation part of their own, and these have one"),
        (["method=aft", "method.beta=1", "train.batch_size=2", "train.labelled_per_batch=1"],
         "train.batch_size: method aft needs at least 3 rows"),
        (["data.views.num_views=0"], "data.views.num_views=0 makes fresh views every epoch"),
    ):  # fmt: skip
        ran = run(*transfer_words(tmp_path, *words))
        assert ran.code == 2 and expected in ran.lines[-1], ran.err
        assert not (tmp_path / "run").exists()
    assert run(*transfer_words(tmp_path)).code == 0  # and the corrected start is not in its way


def test_debugging_keeps_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENKT_DEBUG", "1")
    with refused("draws", 0, kind=ValueError):
        run("transfer", "draws=0", *model_words("teacher"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    ran = run(*transfer_words(tmp_path / "x"))
    assert ran.code == 2 and "Permission denied" in ran.err


def test_an_output_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = run(*transfer_words(tmp_path, f"out={tmp_path / 'file' / 'run'}"))
    assert ran.code == 2 and len(ran.lines) == 1 and "cannot be written" in ran.err
    ran = run(*transfer_words(tmp_path, f"out={tmp_path / 'file'}"))
    assert ran.code == 2 and "expected a folder, got a file" in ran.err
    ran = run(*transfer_words(tmp_path, f"out={tmp_path / 'images'}"))
    assert ran.code == 2 and "the folder is not empty and holds no genkt run" in ran.err


def test_a_sweep_numbers_its_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = transfer_words(tmp_path, "-m", "method=stl", "train.lr=1e-3,2e-3", "out=my runs")
    ran = run(*words)
    assert ran.code == 0, ran.err
    assert ran.out.count("report: ") == 2
    for job, lr in enumerate((1e-3, 2e-3)):
        report = json.loads((tmp_path / "my runs" / str(job) / "report.json").read_text())
        assert report["config"]["train"]["lr"] == lr
    before = tree(tmp_path / "my runs" / "0" / "student")
    assert run(*words).code == 0  # finished runs are told again
    assert tree(tmp_path / "my runs" / "0" / "student") == before


def test_the_cache_command_fills_what_a_transfer_reads(tmp_path: Path) -> None:
    first = transfer_words(tmp_path, "teacher.adapt=none", "method=aft", "method.beta=1")
    saved = tmp_path / "teacher.pth"
    save_teacher(saved)
    teacher = [word for word in first if word.startswith(("teacher", "data", "cache"))]
    teacher += [f"teacher.weights={saved}"]
    made = run("cache", *[word for word in teacher if "adapt" not in word], "device=cpu")
    assert made.code == 0 and "42 rows" in made.out, made.err
    before = tree(tmp_path / "cache")
    assert run(*first, f"teacher.weights={saved}").code == 0
    assert tree(tmp_path / "cache") == before  # no store was added or changed


def save_teacher(path: Path) -> None:
    """Fixed weights for the tiny teacher."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=[8, 8, 16, 16])
    torch.save(model.state_dict(), path)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["+train.lr=1"], "+train.lr=1: is a setting already; write train.lr=1"),
        (["++train.lrr=1"], "train.lrr: unknown setting. Did you mean train.lr?"),
        (["~nope"], "nope: unknown setting. Known here: data, student"),
        (["~train.lr=1"], "~train.lr=1: expected ~train.lr alone"),
        (["data@x=digits"], "data@x=digits: expected a key of names and dots"),
        (["+method=aft"], "+method=aft: a choice is written method=aft"),
        (["per_class=3"], "per_class: unknown setting. Did you mean data.labels_per_class?"),
        (["train..lr=1"], '"train..lr=1": expected key=value'),
        (["hydra/launcher=nope"], "hydra/launcher=nope: hydra has no such setting or value"),
        (["hydra.run.dri=x"], "hydra.run.dri=x: hydra has no such setting or value"),
        (["-m", "experiment=null", "train.lr=x,1"], 'train.lr: expected a number or auto, got "x"'),
        (["train.lr=" + 5000 * "x"], "characters left out"),
        (["method=" + 5000 * "x"], "characters left out"),
        (["out=~nobody/x", "data=folder", "data.root=~nobody"], "no such folder: ~nobody"),
    ],
)
def test_the_words_of_hydra_are_ours(words: list[str], expected: str) -> None:
    ran = run("transfer", *words)
    assert ran.code == 2 and len(ran.lines) == 1 and expected in ran.err, ran.err
    assert len(ran.err) < 1000


def test_the_printed_default_of_an_experiment_is_accepted() -> None:
    words = ["student=embedded", "teacher=embedded", "experiment=null", "experiment=null"]
    assert read_config(TransferConfig, "transfer", words).seed == 0


def test_a_key_given_twice_is_told(caplog: pytest.LogCaptureFixture) -> None:
    run("inspect", "x", "examples=1", "examples=x", "check=true", "check=true")
    assert [record.message for record in caplog.records] == [
        "examples: given 2 times (1, x); the last one counts"
    ]


def test_settings_that_nothing_reads_are_told() -> None:
    words = ["method=aft", "method.beta=1", "adapt.steps=3", "train.momentum=0.5", "irf.head_lr=1"]
    told = unused(read_config(TransferConfig, "transfer", words), keys_of(words))
    assert [line.split(":")[0] for line in told] == ["adapt.steps", "train.momentum", "irf.head_lr"]
    words = [
        "teacher.adapt=fine_tune",
        "adapt.steps=3",
        "train.optimizer=sgd",
        "train.momentum=0.5",
    ]
    assert unused(read_config(TransferConfig, "transfer", words), keys_of(words)) == []


STEERS = "a\x1b[2J\u202e\x07b"


def test_what_is_printed_steers_no_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / STEERS).mkdir()
    picture(0, 0).save(tmp_path / STEERS / "x.png")
    for words in (["inspect", STEERS], ["inspect", f"{STEERS}no"], ["inspect", f"{STEERS}=1"]):
        ran = run(*words)
        for letter in "\x1b\u202e\x07":
            assert letter not in ran.out + ran.err
        assert "\\x1b[2J\\u202e\\x07b" in ran.err or "1 image\n" in ran.out


def test_bars_and_logs_go_through_the_same_door() -> None:
    err = io.StringIO()
    with contextlib.redirect_stderr(err), printing():
        with tqdm(total=2, desc=STEERS, disable=False) as bar:
            bar.update()
        logging.StreamHandler().emit(logging.makeLogRecord({"msg": STEERS}))
        sys.stderr.write("\x1b[A")
    assert err.getvalue().count("\x1b") == 1 and "\\x1b[2J" in err.getvalue()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["inspect", "PLACE"], "does not exist. Did you mean"),
        (["predict", "PLACE", "x.png"], "no such folder. Did you mean"),
        (["export", "PLACE"], "no such folder. Did you mean"),
        (["evaluate", "model=PLACE", "data=digits"], "no such folder. Did you mean"),
        (["convert", "PLACE", "out=o"], "no such file: "),
        (["retrieve", "data=digits", "gallery=PLACE", "out=o"], "does not exist. Did you mean"),
        (["synthesize", "data=digits", "generator=PLACE", "out=o"], "no such folder. Did you mean"),
    ],
)
def test_places_that_are_not_there(
    words: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    ran = run(*[word.replace("PLACE", str(tmp_path / "pictuers")) for word in words])
    assert ran.code == 2 and expected in ran.err and str(tmp_path / "pictures") in ran.err, ran.err


class _Dying:
    """Raises while it is deleted."""

    def __init__(self, module: str) -> None:
        self.names = {"__name__": module}
        exec("def fail(): raise RuntimeError('a worker died')", self.names)

    def __del__(self) -> None:
        self.names["fail"]()  # type: ignore[operator]


def test_a_loader_that_dies_while_something_is_deleted_prints_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: told.append(str(args.exc_value)))
    with _dead_loaders_told_once():
        for module in ("torch.utils.data._utils.signal_handling", "somewhere.else"):
            [_Dying(module)].clear()
    assert told == ["a worker died"]  # the other module's
    assert sys.unraisablehook.__name__ == "<lambda>"
