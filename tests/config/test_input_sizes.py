"""The size that a model sees: every way to say it gives the same settings, two are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused
from training_cases import tiny_resnet

from genkt.config.read_config import read_config, with_settings
from genkt.config.retrieval_settings import RetrievalSettings
from genkt.config.set_command_settings import RetrieveConfig
from genkt.config.transfer_settings import TransferConfig
from genkt.data.transform import ImageTransform, whole_overlay
from genkt.models.load import ModelSpec, load_model
from genkt.settings.assignments import assignments
from genkt.settings.objects import GivenObject
from genkt.transfers.unused import unused

FORMS: list[Any] = [64, [64, 64], [3, 64, 64]]
MODELS = ["student=resnet18", "teacher=resnet18"]
SIDES = st.integers(1, 2**14)


def read(*words: str, **settings: Any) -> TransferConfig:
    return read_config(TransferConfig, "transfer", [*words, *assignments(settings)])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", ["size", "transform.input_size"])
@pytest.mark.parametrize("who", ["student", "teacher"])
def test_every_form_of_a_size_means_the_same(who: str, key: str, form: Any, tmp_path: Path) -> None:
    text = str(form).replace(" ", "")
    typed = read(*MODELS, f"{who}.{key}={text}")
    own = getattr(typed, who)
    assert own.transform == {"input_size": [64, 64]} and own.size is None
    inner = {"size": form} if key == "size" else {"transform": {"input_size": form}}
    assert read(*MODELS, **{who: {"model": "resnet18", **inner}}) == typed
    (tmp_path / "mine.yaml").write_text(f"defaults: [transfer, _self_]\n{who}: {inner}\n")
    mapping = read(f"--config-dir={tmp_path}", "--config-name=mine", *MODELS, f"{who}.{key}={text}")
    assert getattr(mapping, who).transform == own.transform


def test_a_file_may_have_the_short_form(tmp_path: Path) -> None:
    home = tmp_path / "student"
    home.mkdir()
    (home / "mine.yaml").write_text(
        "model: resnet18\npretrained: false\nweights: null\nargs: {}\ntransform: {mean: 0.5}\n"
        "size: 64\nchannels_last: false\n"
    )
    words = (f"--config-dir={tmp_path}", "student=mine")
    half = {"mean": [0.5] * 3}
    assert read(*words).student.transform == {**half, "input_size": [64, 64]}
    again = read(*words, "student.transform.input_size=48")
    assert again.student.transform == {**half, "input_size": [48, 48]}


def test_a_size_takes_the_place_of_the_one_in_a_file() -> None:
    before, now = read().student.transform, read("student.size=64").student.transform
    assert before["input_size"] == [32, 32]
    assert now == {**before, "input_size": [64, 64]}
    assert read("student.size=null") == read()
    assert with_settings(read(), {"student.size": 64}).student.transform == now


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_two_sizes_at_once_are_refused_in_one_line(who: str) -> None:
    for long in (f"{who}.transform.input_size=32", f"{who}.transform={{input_size: 32}}"):
        with refused("64", "32", key=f"{who}.size") as caught:
            read(*MODELS, f"{who}.size=64", long)
        assert "\n" not in str(caught.value)
        assert f"{who}.transform.input_size" in str(caught.value)


@pytest.mark.parametrize(
    ("word", "key"),
    [
        ("size=[64]", "size"),
        ("size=[1,64,64]", "size"),
        ("size=large", "size"),
        ("size=0", "size"),
        ("transform.input_size=true", "transform.input_size"),
        ("transform.input_size=[64,64,64]", "transform.input_size"),
        ("transform.input_size=64.5", "transform.input_size"),
        ("transform.mean=[0.5,0.5]", "transform.mean"),
        ("transform.std=0", "transform.std"),
        ("transform.crop_pct=large", "transform.crop_pct"),
        ("transform.interpolation=[bicubic]", "transform.interpolation"),
        ("transform.crop=0.9", "transform.crop"),
    ],
)
def test_other_forms_are_refused_by_their_key(word: str, key: str) -> None:
    with refused(key=f"student.{key}") as caught:
        read(*MODELS, f"student.{word}")
    assert "\n" not in str(caught.value)


def test_encoders_have_the_same_forms() -> None:
    def encoder(*words: str) -> Any:
        config = read_config(RetrieveConfig, "retrieve", list(words))
        assert isinstance(config, RetrievalSettings)
        return config.encoder

    assert encoder("encoder=resnet18", "encoder.size=64").transform == {"input_size": [64, 64]}
    with refused("pixels", key="encoder.transform"):
        encoder("encoder=pixels", "encoder.size=64")
    retrieved = read("transfer_set=retrieved", "transfer_set.encoder.size=[64,48]")
    assert retrieved.transfer_set.encoder.transform == {"input_size": [64, 48]}  # type: ignore[union-attr]


@given(SIDES, SIDES, st.floats(-10, 10), st.floats(0.01, 10))
def test_a_transform_takes_every_form(height: int, width: int, mean: float, std: float) -> None:
    whole = ImageTransform((height, width), (mean,) * 3, (std,) * 3)
    assert ImageTransform([3, height, width], mean, [std]) == whole  # type: ignore[arg-type]
    overlay = whole_overlay({"mean": mean, "std": std}, [height, width])
    assert ImageTransform(**overlay) == whole
    assert whole_overlay(overlay) == overlay
    assert ImageTransform(height, mean, std).input_size == (height, height)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", FORMS)
def test_a_network_that_is_built_for_a_size_takes_every_form(form: Any) -> None:
    args = {"embed_dim": 12, "depth": 1, "num_heads": 1}
    spec = ModelSpec("vit_tiny_patch16_224", False, None, args, {"input_size": form})
    assert load_model(spec, num_classes=3).transform.input_size == (64, 64)


def test_an_error_without_words_says_what_did_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_model(*_: Any, **__: Any) -> None:
        raise ValueError

    monkeypatch.setattr("timm.create_model", create_model)
    with refused("ValueError: raise ValueError"):
        load_model(ModelSpec("resnet18", pretrained=False))


def test_settings_of_a_module_are_not_used_and_told() -> None:
    config = read(student=GivenObject.of(tiny_resnet(), "a module"))
    told = unused(config, ["student.size", "teacher.size"])
    assert len(told) == 1 and told[0].startswith("student.size: not used")
