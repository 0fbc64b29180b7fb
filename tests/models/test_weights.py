"""Weights as their authors publish them: found, mapped, resized, and said; others are refused."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed  # type: ignore[attr-defined]
from timm.models import adapt_input_conv  # type: ignore[attr-defined]
from timm.models.swin_transformer import checkpoint_filter_fn as swin_filter
from tiny import run
from torch import Tensor
from training_cases import assert_same
from weights_cases import (
    FAMILIES,
    PUBLISHED,
    State,
    convnext,
    features,
    loaded,
    network,
    saved,
    under,
    without_head,
    written,
    zeros,
)

from genkt.models.load import ModelSpec, load_model
from genkt.models.weights import load_weights, weights_notes
from genkt.types import UserError


@pytest.mark.parametrize(
    ("name", "publish", "said"), PUBLISHED, ids=lambda each: getattr(each, "__name__", str(each))
)
def test_published_checkpoints_compute_what_their_network_did(
    name: str, publish: Callable[[State], object], said: str, tmp_path: Path
) -> None:
    source = network(name)
    path = written(tmp_path, publish(saved(source)))
    size = FAMILIES[name].get("img_size", 32)
    torch.testing.assert_close(
        features(loaded(name, path), size), features(source, size), atol=1e-6, rtol=0
    )
    note = "; ".join(weights_notes([str(path)]))
    assert re.search(said, note), note


CONTAINERS = ("", "state_dict", "model", "model_state_dict", "model_ema", "ema", "teacher", "net")
PREFIXES = ("", "module.", "model.", "backbone.", "encoder.", "_orig_mod.", "net.", "a.b.c.")
RESNET = saved(network("resnet18"))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(CONTAINERS), max_size=2),
    st.lists(st.sampled_from(PREFIXES), max_size=2),
    st.booleans(),
)
def test_any_container_and_prefix_are_seen_through(
    keys: list[str], prefixes: list[str], beside: bool
) -> None:
    content: object = under("".join(prefixes), RESNET)
    for key in filter(None, keys):
        content = {"epoch": 3, key: content, "other": {"w": torch.zeros(2)}}
    if beside and isinstance(content, dict):
        content["extra_projector.weight"] = torch.zeros(2)
    model = network("resnet18")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_weights(model, content, "x", name="resnet18")
    assert_same(RESNET, model.state_dict())


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("state_dict_ema", "model_ema"), ("model_ema", "state_dict"), ("state_dict", "model"),
        ("model", "ema"), ("ema", "teacher"), ("teacher", "net"), ("net", "student"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_of_several_networks_the_documented_one_is_taken(
    first: str, second: str, turned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    content = {first: RESNET, second: zeros(RESNET)}
    if turned and first != "ema":  # these two are of one rank: the file's order counts
        content = dict(reversed(content.items()))
    model = network("resnet18")
    load_weights(model, content, f"{first} {second} {turned}", name="x")
    assert_same(RESNET, model.state_dict())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"taken from {first}; also there: {second}" in record.getMessage()


def test_position_tables_are_resized_as_timm_does(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    state = saved(network(name))
    model = loaded(name, written(tmp_path, {"model": state}), img_size=64)
    expected = resample_abs_pos_embed(state["pos_embed"], [8, 8], num_prefix_tokens=1)
    assert torch.equal(model.state_dict()["pos_embed"], expected)
    assert "resized pos_embed 1x17x16 to 1x65x16" in weights_notes([str(tmp_path / "x.pth")])[0]

    name = "swin_tiny_patch4_window7_224"
    state = saved(network(name))
    model = loaded(name, written(tmp_path, state), window_size=2)
    mapped = swin_filter(state, network(name, window_size=2))
    tables = [key for key in mapped if key.endswith("bias_table")]
    assert len(tables) == 2
    assert all(torch.equal(model.state_dict()[key], mapped[key]) for key in tables)


def test_a_grey_stem_is_made_one_for_colours(tmp_path: Path) -> None:
    state = saved(network("resnet18"))
    state["conv1.weight"] = state["conv1.weight"][:, :1]
    model = loaded("resnet18", written(tmp_path, state))
    expected = adapt_input_conv(3, state["conv1.weight"], base_chans=1)
    assert torch.equal(model.state_dict()["conv1.weight"], expected)


def test_the_head_of_mapped_names_is_kept(tmp_path: Path) -> None:
    source = network("convnext_tiny")
    path = written(tmp_path, convnext(saved(source)))
    assert_same(saved(source), loaded("convnext_tiny", path, None).state_dict())


def test_what_changes_nothing_is_not_said_and_the_rest_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "genkt")
    path = tmp_path / "x.safetensors"
    save_file(RESNET, path)
    loaded("resnet18", path, 5)
    assert not caplog.records and not weights_notes([str(path), None])
    for _ in range(2):
        loaded("resnet18", path, 3)
    (record,) = caplog.records  # another number of classes was asked for: no warning
    assert record.levelno == logging.INFO and "that of the file has 5" in record.getMessage()
    save_file(under("net.", without_head(RESNET)), path)
    for _ in range(2):
        loaded("resnet18", path, None)
    _, wrapped, head = caplog.records
    assert (wrapped.levelno, head.levelno) == (logging.INFO, logging.WARNING)
    said = [wrapped.getMessage(), head.getMessage()]
    assert weights_notes([str(path), str(path)]) == said
    save_file(RESNET, path)
    loaded("resnet18", path, 5)
    assert not weights_notes([str(path)])


def changed(name: str, make: Callable[[Tensor], Tensor]) -> State:
    return RESNET | {name: make(RESNET[name])}


VIT = saved(network("vit_tiny_patch16_224"))
STEM = "conv1.weight"
REFUSED: dict[str, tuple[str, object, str]] = {
    "a block too many": (
        "vit_tiny_patch16_224",
        VIT | {"blocks.2.norm1.weight": torch.zeros(16)},
        "1 unknown.*blocks.2.norm1.weight",
    ),
    "another kind of block": (
        "vit_tiny_patch16_224",
        VIT | {"blocks.0.ls1.gamma": torch.zeros(16)},
        "1 unknown.*ls1.gamma",
    ),
    "a norm the model has not": (
        "vit_tiny_patch16_224",
        VIT | {"norm_pre.weight": torch.zeros(16)},
        "1 unknown.*norm_pre",
    ),
    "a distilled network": (
        "vit_tiny_patch16_224",
        VIT | {"dist_token": torch.zeros(1, 1, 16)},
        "1 unknown.*dist_token",
    ),
    "a table that is no square": (
        "vit_tiny_patch16_224",
        VIT | {"pos_embed": torch.zeros(1, 14, 16)},
        "pos_embed 1x14x16 instead of 1x17x16",
    ),
    "lost statistics": (
        "resnet18",
        {k: v for k, v in RESNET.items() if k != "layer1.0.bn1.running_var"},
        "1 of 80 tensors missing.*layer1.0.bn1.running_var",
    ),
    "a wrong name": (
        "resnet18",
        {k.replace("layer1.0.conv1", "layer1.0.convA"): v for k, v in RESNET.items()},
        "missing layer1.0.conv1.weight.*The file has layer1.0.convA.weight",
    ),
    "wider": ("resnet18", changed(STEM, lambda v: v.repeat(2, 1, 1, 1)), "128x3x7x7 instead of"),
    "not a number": ("resnet18", changed(STEM, lambda v: v / 0), f"9408 values of {STEM} are NaN"),
    "infinite": ("resnet18", changed("bn1.bias", lambda v: v / 0), "values of bn1.bias"),
    "complex": ("resnet18", changed(STEM, lambda v: v + 1j), f"{STEM}: it is complex"),
    "whole numbers": ("resnet18", changed(STEM, lambda v: v.to(torch.int8)), f"int8 at {STEM}"),
    "eight bits": (
        "resnet18",
        changed(STEM, lambda v: v.to(torch.float8_e4m3fn)),
        f"{STEM}: it is quantised",
    ),
    "sparse": (
        "resnet18",
        changed("fc.weight", lambda v: v.to_sparse()),
        "fc.weight: it is sparse",
    ),
    "an optimizer": (
        "resnet18",
        {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}},
        "the state of an optimizer alone",
    ),
    "transformers": (
        "vit_tiny_patch16_224",
        {"vit.embeddings.patch_embeddings.projection.weight": torch.zeros(16, 3, 8, 8)},
        "names of Hugging Face's transformers",
    ),
}


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize("case", REFUSED)
def test_other_weights_are_refused_by_name(case: str, tmp_path: Path) -> None:
    name, content, match = REFUSED[case]
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=match) as caught:
        loaded(name, path)
    assert "\n" not in str(caught.value) and "weights_only" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_folder_that_timm_does_not_read_is_read_past_its_settings(tmp_path: Path) -> None:
    """timm refuses a figure of NumPy beside the weights, and tells how to run the file's code."""
    source = load_model(ModelSpec("genkt:digits_teacher"))
    source.export(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    content = {"state_dict": source.model.state_dict(), "best": np.float64(0.5)}
    torch.save(content, tmp_path / "pytorch_model.bin")
    assert load_model(ModelSpec(f"local-dir:{tmp_path}")).fingerprint() == source.fingerprint()


def test_the_commands_take_a_folder_and_name_a_wrong_file(tmp_path: Path) -> None:
    words = ("evaluate", "model=genkt:digits_teacher")
    ran = run(*words, f"weights={tmp_path}")
    assert ran.code == 2 and "pytorch_model.bin" in ran.err and "holds nothing" in ran.err
    (tmp_path / "x.pth").write_text("<html>Please sign in</html>")
    ran = run(*words, f"weights={tmp_path / 'x.pth'}")
    assert ran.code == 2 and "a web page" in ran.err


def test_names_of_a_file_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = written(tmp_path, {"a\x1b[2J": RESNET | {"decoder.\r\x07": torch.zeros(1)}})
    loaded("resnet18", path)
    notes = weights_notes([str(path)])
    assert "1 tensor left out" in notes[0] and all(note.isprintable() for note in notes)
    written(tmp_path, RESNET | {"layer1.\x1b[2J\n": torch.zeros(1)})
    with refused("1 unknown") as caught:
        loaded("resnet18", path)
    assert str(caught.value).isprintable()


def test_a_head_of_no_shape_is_a_new_head(tmp_path: Path) -> None:
    path = written(tmp_path, RESNET | {"fc.weight": torch.zeros(()), "fc.bias": torch.zeros(())})
    for num_classes in (3, None):
        loaded("resnet18", path, num_classes)
    assert "the file has none" in weights_notes([str(path)])[-1]
