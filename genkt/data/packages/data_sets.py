"""The data sets that packages hold."""

from __future__ import annotations

from genkt.data.packages.fashion_mnist import FASHION_MNIST
from genkt.data.packages.stamp_files import STAMPS

DATA_PACKAGES = {"fashion_mnist": FASHION_MNIST, "stamps": STAMPS}
"""Choices of ``data`` -> the package that holds the pictures."""
