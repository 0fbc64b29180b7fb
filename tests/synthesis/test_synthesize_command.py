"""``genkt synthesize`` as a person meets it: words, messages, resume, torchrun, Python."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from forked import Command, until
from refusals import refused
from synthesis_cases import OF_SPEED
from tiny import model_words, run, tree, write_images
from tiny_generator import save_tiny_generator, tiny_generator

import genkt

OF_TIME = ("synthesize.log",)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_images(tmp_path / "images", per_class=5)
    save_tiny_generator(tmp_path / "generator")
    return tmp_path


def words(home: Path, *more: str) -> list[str]:
    return [
        "synthesize", "data=folder", f"data.root={home / 'images'}", "device=cpu", "shard_size=8",
        f"generator={home / 'generator'}", f"out={home / 'set'}", "num_threads=2", *more,
    ]  # fmt: skip


def test_the_shortest_way(home: Path) -> None:
    ran = run(*words(home, "method=digg", "num_images=20"))
    assert ran.code == 0, ran.err
    assert "20 images asked, 20 made, 20 kept" in ran.out
    assert f"genkt.TransferSet.open({str(home / 'set')!r})" in ran.out
    found = genkt.TransferSet.open(home / "set")
    parents = {record.parent or "" for record in found.records()}
    assert len(found) == 20 and len(parents) == 5
    config = (home / "set" / "config.yaml").read_text()
    assert "method=digg" in config.splitlines()[0]
    again = run("synthesize", "--config-dir", str(home / "set"), "--config-name", "config",
                f"out={home / 'repeated'}")  # fmt: skip
    assert again.code == 0, again.err
    repeated = genkt.TransferSet.open(home / "repeated")
    assert repeated.images.ids == found.images.ids


@pytest.mark.parametrize(
    ("more", "count"),
    [
        (["method=irf"], 9),  # 15 images, 3 of them for the test, 3 for validation
        (["method=irf", "sources=labelled", "data.labels_per_class=2"], 6),
        (["method=irf", "sources=labelled", "data.labels_per_class=2", "draw=1"], 6),
        (["method=irf", "sources=all", "data.unlabelled=[pool]"], 13),
        (["method=irf", "images=pool"], 4),
        (["synthesis=irf", "max_sources=5", "files.container=tar", "files.format=png"], 5),
        (["synthesis.masks.kinds=[left,top]", "method.sampling.top_k=3", "num_images=7"], 7),
        (["filters.diversity=true", *model_words("teacher"), "num_images=9"], 9),
        (["method=deep_inversion", "num_images=4", "method.inversion.steps=1",
          *model_words("teacher")], 4),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)  # fmt: skip
def test_the_ways_to_say_what(
    home: Path, more: list[str], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    write_images(home / "pool", ("x",), 4, first=9)
    ran = run(*words(home, *more))
    assert ran.code == 0, ran.err
    assert len(genkt.TransferSet.open(home / "set")) == count


def test_only_training_images_are_sources(home: Path) -> None:
    assert run(*words(home, "method=irf", "seed=5")).code == 0
    splits = genkt.read_folder(home / "images", validation_fraction=0.1, seed=5)
    parents = {r.parent for r in genkt.TransferSet.open(home / "set").records()}
    assert parents == set(splits.train.ids)


def test_faults_are_told_at_once_and_nothing_is_written(home: Path) -> None:
    ran = run(*words(home, "method.masks.kinds=[bottm]", "num_images=0", "filters.agree=1",
                     "files.format=gif"))  # fmt: skip
    assert ran.code == 2 and ran.out == ""
    for expected in (
        "synthesis.masks.kinds[0]: expected one of bottom",
        "num_images: expected a number 1 .. ",
        "filters.agree: unknown setting. Did you mean filters.agreement?",
        "files.format: expected one of",
    ):
        assert expected in ran.err
    for more, expected in (
        (["method=dig"], "synthesis=dig: expected one of digg"),
        (["method=irf", "num_images=5"], "num_images: expected null with synthesis=irf"),
        (["generator=genkt:digit_generator"], "generator genkt:digit_generator: expected"),
        (["generator=nowhere"], "generator nowhere: no such folder"),
        (["images=/no/such"], "/no/such"),
        (["images=[images]", "sources=all"], "images: replaces data"),
        (["method=deep_inversion", "teacher=[resnet18,resnet34]"], "teacher: expected one model"),
        (
            ["method.masks={kinds: [bottom], min_share: 0.3, max_share: 0.3}"],
            "no bottom mask of whole",
        ),
    ):
        ran = run(*words(home, *more))
        assert ran.code == 2 and expected in ran.err and len(ran.lines) == 1, ran.err
    assert not (home / "set").exists()


@pytest.mark.parametrize("method", ["digg", "irf", "deep_inversion"])
def test_a_dry_run_writes_nothing(home: Path, method: str) -> None:
    before = tree(home)
    teacher = model_words("teacher") if method == "deep_inversion" else []
    ran = run(*words(home, f"method={method}", "dry_run=true", "batch_size=4", *teacher))
    assert ran.code == 0, ran.err
    assert "nothing was written" in ran.out and "images/s" in ran.out
    assert tree(home) == before


def _environment() -> dict[str, str]:
    root = str(Path(genkt.__file__).parent.parent)
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": root}


def _command(home: Path) -> list[str]:
    """The same words in every home: paths are relative."""
    relative = [word.replace(f"{home}/", "") for word in words(home, "num_images=100")]
    return [*relative, "batch_size=4", "files.container=tar"]


def test_torchrun_and_a_killed_run_give_the_bytes_of_one_process(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = {}
    for name in ("alone", "killed", "ranks"):
        homes[name] = home / name
        homes[name].mkdir()
        for part in ("images", "generator"):
            (homes[name] / part).symlink_to(home / part)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ranks = subprocess.Popen(
        [*torchrun, "--nproc-per-node", "2", "-m", "genkt", *_command(home)], cwd=homes["ranks"],
        env=_environment(), text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    killed = Command(_command(home), cwd=homes["killed"])
    shards = homes["killed"] / "set" / "shards"
    until(lambda: len(list(shards.glob("*.json"))) >= 2, killed, pause=0.001)
    killed.kill()
    assert not (homes["killed"] / "set" / "transfer_set.json").exists()
    for name in ("alone", "killed"):
        monkeypatch.chdir(homes[name])
        ran = run(*_command(home))
        assert ran.code == 0, ran.err
    out, err = ranks.communicate(timeout=600)
    assert ranks.returncode == 0, err[-2000:]
    assert out.count("100 images asked") == 1  # one process speaks
    trees = {
        name: {k: v for k, v in tree(folder / "set").items() if k not in OF_TIME}
        for name, folder in homes.items()
    }
    assert len(trees["alone"]) > 13 * 4  # image, manifest, token and marker files of 13 shards
    assert trees["killed"] == trees["alone"]
    assert trees["ranks"] == trees["alone"]


def _made(out: Path) -> dict[str, bytes]:
    """The files of a set without what tells the time or the command."""
    return {k: v for k, v in tree(out).items() if k not in OF_SPEED}


def _executed(home: Path, name: str, *more: str) -> dict[str, bytes]:
    """A set made in ``home/name``."""
    ran = run(*words(home, "num_images=60", "batch_size=4", *more, f"out={home / name}"))
    assert ran.code == 0, ran.err
    return _made(home / name)


def _beside(home: Path, name: str, **environment: str) -> Command:
    """The same in a process of its own."""
    command = words(home, "num_images=60", "batch_size=4", f"out={home / name}")
    return Command(command, env=environment)


def _kill_a_worker(images: Path) -> None:
    """Kill a process of a pool as soon as one is in the middle of a shard."""
    deadline = time.monotonic() + 600
    while not images.is_dir() or not list(images.glob(".*")):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    at_work = min(path.name for path in images.glob(".*"))
    first, second = sorted(multiprocessing.active_children(), key=lambda worker: worker.name)
    # the pool gave the even shards' first one to its first worker
    victim = first if at_work.startswith(".00000.") else second
    assert victim.pid is not None
    os.kill(victim.pid, signal.SIGKILL)


def test_a_pool_gives_the_bytes_of_one_process_even_when_a_worker_is_killed(home: Path) -> None:
    """With a teacher, which the workers load as well."""
    measured = [*model_words("teacher"), "filters.diversity=true"]
    one = _executed(home, "one", *measured)
    killer = threading.Thread(target=_kill_a_worker, args=(home / "pool" / "images",))
    killer.start()
    pool = _executed(home, "pool", *measured, "executor=pool", "executor.num_workers=2")
    killer.join()
    assert pool == one
    assert (
        "its process died (SIGKILL); it is run again"
        in (home / "pool" / "synthesize.log").read_text()
    )
    for part in ("shards/00002.json", "transfer_set.json"):
        (home / "pool" / part).unlink()
    assert _executed(home, "pool", *measured) == one  # another executor may go on


def test_processes_of_srun_meet_in_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = _executed(home, "one")
    other = _beside(home, "two", SLURM_PROCID="1", SLURM_STEP_NUM_TASKS="2")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    assert _executed(home, "two") == one
    out, err = other.communicate(timeout=600)
    assert other.returncode == 0 and not out, err  # one process speaks


def test_two_commands_at_once_lose_nothing(home: Path) -> None:
    one = _executed(home, "one")
    other = _beside(home, "two")
    until((home / "two" / "images").is_dir, other, pause=0.001)
    mine = _executed(home, "two")
    _, err = other.communicate(timeout=600)
    assert other.returncode == 0, err
    assert mine == one == _made(home / "two")


def test_processes_of_srun_do_not_overwrite(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _executed(home, "set")
    before = tree(home / "set")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    ran = run(*words(home, "seed=9", "overwrite=true"))
    assert ran.code == 2 and "remove " in ran.err and len(ran.lines) == 1
    assert tree(home / "set") == before


def test_from_python(home: Path) -> None:
    images = genkt.read_folder(home / "images", test_fraction=0.0).train
    for name, data in (("a", images), ("b", genkt.Splits(images))):
        found = genkt.synthesize(
            "synthesis.samples_per_mask=2", method="digg", data=data, max_sources=4,
            generator=tiny_generator(), device="cpu", out=home / name, files={"format": "png"},
        )  # fmt: skip
        assert len(found) == 8 and found.record(0).file.endswith(".png")
        again = genkt.load_generator(home / "generator")
        assert again.fingerprint() == found.header["generator"]["fingerprint"]
        assert np.asarray(found.images.load(3)).shape == (16, 16, 3)
    card = (home / "a" / "README.md").read_text()
    assert "generator=<Generator>" in card and "data=<ImageSet>" in card
    with refused("dry_run", kind=genkt.UserError):
        genkt.synthesize(data=images, generator=tiny_generator(), dry_run=True, device="cpu")
