"""Atomic files, fingerprints, seeds, folders."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genkt.disk import cache_home
from genkt.io import (
    atomic_path,
    derive_seed,
    did_you_mean,
    fingerprint,
    fingerprint_ids,
    fingerprint_tensors,
    read_json,
    resource,
    write_json,
    write_text,
)
from genkt.types import Cost


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "deep" / "file.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old" and temporary.suffix == ".txt"
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(path.parent) == ["file.txt"]
    write_text(path, "new ä")
    assert path.read_text(encoding="utf-8") == "new ä"


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        path = write_text(tmp_path / "file", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_json_takes_dataclasses_paths_and_arrays(tmp_path: Path) -> None:
    value = {"i": Cost(1.0, 5, 3), "p": Path("a/b"), "a": np.arange(2), "t": torch.ones(1)}
    path = write_json(tmp_path / "x.json", value)
    assert read_json(path) == {
        "i": {
            "seconds": 1.0, "samples": 5, "steps": 3, "peak_memory_bytes": 0, "teacher_images": 0,
            "fill_seconds": 0.0,
        },
        "p": "a/b", "a": [0, 1], "t": [1.0],
    }  # fmt: skip
    with pytest.raises(TypeError, match="not serialisable: object"):
        write_json(path, object())
    assert read_json(path)["p"] == "a/b"


def test_fingerprints_tell_parts_apart_and_ignore_key_order() -> None:
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint_ids(["ab", "c"]) != fingerprint_ids(["a", "bc"])
    assert fingerprint_ids(["a", "b"]) != fingerprint_ids(["b", "a"])


def test_tensor_fingerprints_see_every_value_shape_name_and_dtype() -> None:
    tensors = {
        "w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3), "e": torch.zeros(0),
        "h": torch.ones(2, dtype=torch.bfloat16),
    }  # fmt: skip
    base = fingerprint_tensors(tensors)
    same = {name: tensors[name].clone() for name in reversed(tensors)}
    same["w"] = tensors["w"].t().contiguous().t()  # other strides, equal values
    assert fingerprint_tensors(same) == base
    for change in (
        {"w": tensors["w"] + torch.tensor([0, 0, 1e-6])},
        {"w": tensors["w"].reshape(3, 2)},
        {"w": tensors["w"].double()},
        {"n": torch.tensor(4)},
        {"v": torch.zeros(1)},
    ):
        assert fingerprint_tensors(tensors | change) != base


@given(st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=3))
def test_seeds_are_63_bits_and_repeat(parts: list[int | str]) -> None:
    seed = derive_seed(*parts)
    assert 0 <= seed < 2**63 and seed == derive_seed(*parts)
    assert seed != derive_seed(*parts, "more")


def test_seeds_tell_numbers_from_words() -> None:
    assert derive_seed(1, "a") != derive_seed("1", "a")


def test_suggestions_come_closest_first() -> None:
    assert did_you_mean("resnet81", ["vit", "resnet18"]) == " Did you mean resnet18?"
    assert did_you_mean("qqq", ["vit"]) == ""


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("learning_rate", "lr"),
        ("learningRate", "lr"),
        ("wd", "weight_decay"),
        ("bs", "batch_size"),
        ("batch", "batch_size"),
        ("num_epochs", "epochs"),
        ("grad_clip", "clip_grad"),
        ("gradient_accumulation_steps", "accumulate"),
        ("kw", "kl_weight"),
        ("tau", "temperature"),
    ],
)
def test_a_setting_is_known_by_its_other_names(word: str, meant: str) -> None:
    names = ["steps", "epochs", "batch_size", "lr", "weight_decay", "warmup", "clip_grad",
             "accumulate", "kl_weight", "temperature", "learn_what"]  # fmt: skip
    assert did_you_mean(word, names) == f" Did you mean {meant}?"


def test_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert resource("configs").is_dir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("GENKT_CACHE", raising=False)
    assert cache_home() == tmp_path / "genkt"
    monkeypatch.setenv("GENKT_CACHE", str(tmp_path / "own"))
    assert cache_home() == tmp_path / "own"
