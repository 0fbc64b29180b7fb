"""One part of the data that a package holds, by its name."""

from __future__ import annotations

from genkt.data.images import ImageSet
from genkt.data.packages.fashion_mnist import NUM_UNLABELLED, fashion_mnist
from genkt.data.packages.stamps import StampWorld
from genkt.io import did_you_mean
from genkt.types import UserError

_PARTS = {
    "fashion_mnist": ("unlabelled", "train", "validation", "test"),
    "stamps": ("unlabelled", "gallery", "train", "validation", "test"),
}
"""Data set -> its parts, without the confirmation part: nothing is chosen or made from that."""


def read_packaged_part(name: str, part: str) -> ImageSet:
    """A part of a data set, where its package lies in one of the usual places.

    Args:
        name: a key of ``DATA_PACKAGES``.
        part: unlabelled, train, validation or test; stamps have a gallery too.

    Raises:
        UserError: an unknown name or part, a package that is nowhere or is another.
    """
    for key, got, known in (
        ("package", name, tuple(_PARTS)),
        (f"package:{name}", part, _PARTS.get(name, ())),
    ):
        if got not in known:
            hint = did_you_mean(got, known)
            raise UserError.of(key, f"one of {', '.join(known)}", got, f".{hint}" if hint else "")
    if name == "stamps":
        return StampWorld().part(part)
    return fashion_mnist(num_unlabelled=NUM_UNLABELLED).parts[part]
