"""The packages that hold pictures."""

from __future__ import annotations

from genkt.data.packages.package import Package

FASHION_MNIST = Package(
    name="dataset-fashion-mnist",
    registry="deb",
    version="0.0~git20200523.55506a9-1",
    megabytes=31,
    licence="MIT",
    inside="usr/share/datasets/fashion-mnist",
    contents=(
        "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz",
        "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz",
    ),
    sha256="f37bf62265b0989968a94c78e420344f1ede1007dabf032a0dc5e88371fef370",
)  # fmt: skip

STAMPS = Package(
    name="tuxpaint-stamps-default",
    registry="deb",
    version="2022.06.04-1",
    megabytes=161,
    licence="GPL-2",
    inside="usr/share/tuxpaint/stamps",
    contents=(
        "animals", "clothes", "food", "hobbies", "household", "medical", "military",
        "naturalforces", "people", "plants", "space", "sports", "town", "vehicles",
    ),
    sha256="c1da2fefecf8cfea7754b2fe8b00e7120802b4c4d555288469a214a8a9c74a8f",
    suffixes=(".png", ".txt"),
    without="cartoon",
)  # fmt: skip
"""Its folders ``symbols`` (drawn signs) and ``seasonal`` (things of many kinds) are not read."""

DATA_PACKAGES: dict[str, Package] = {"fashion_mnist": FASHION_MNIST, "stamps": STAMPS}
"""Choices of ``data`` -> the package that holds the pictures."""
