"""Any model of a user, whatever it returns, behind the common interface of classifiers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from genkt.data.transform import ImageTransform
from genkt.io import did_you_mean
from genkt.models.backbone import Backbone, transform_of
from genkt.types import UserError

Pooling = Literal["first", "mean"]


def as_backbone(
    module: nn.Module,
    *,
    transform: ImageTransform | None = None,
    classifier: str | None = None,
    features: str | None = None,
    pool: Pooling | None = None,
    name: str | None = None,
) -> Backbone:
    """Any network as a ``Backbone``: features, logits and the input transform, for every part.

    What a module must provide: it takes float images [B, 3, H, W] and has weights. Then

    - timm's models, and modules that end in a linear layer named fc, head, heads or classifier
      and return logits (torchvision's), need nothing more;
    - ``classifier`` names another linear layer that gives the logits, e.g. ``"output.dense"``;
    - ``features`` names what an encoder without classifier returns: a key or attribute of its
      answer, e.g. ``"pooler_output"``, or "" for the answer itself. Such a model has no classes:
      methods on features take it, those on logits refuse it.

    Args:
        module: the network; it is wrapped, not copied.
        transform: how pictures become its input; None: the one a timm model declares.
        classifier, features: see above; at most one of them.
        pool: "first" token or "mean" of all for features [B, T, D]; "mean" for feature maps [B, D,
        H, W]; None: they are [B, D].
        name: shown in messages and reports; None: that of its class.

    Raises:
        UserError: no transform, no such layer or answer, or features that are not [B, D].

    Example:
        >>> half = (0.5, 0.5, 0.5)
        >>> encoder = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ReLU())
        >>> teacher = as_backbone(encoder, transform=ImageTransform((32, 32), half, half),
        ...                       features="", pool="mean")
        >>> tuple(teacher(torch.zeros(2, 3, 32, 32)).features.shape), teacher.num_classes
        ((2, 8), 0)
    """
    if isinstance(module, Backbone):
        return module
    name = name or type(module).__name__
    if transform is None:
        if not hasattr(module, "pretrained_cfg"):
            raise UserError(
                f"model {name}: declares no input transform; give transform=genkt.ImageTransform("
                "(height, width), mean, std) to genkt.models.as_backbone"
            )
        transform = transform_of(module)
    if classifier is not None and features is not None:
        raise UserError(f"model {name}: expected classifier or features, got both")
    if pool is not None and features is None:
        raise UserError(f"model {name}: pool needs features; give features too")
    adapted = module
    if classifier is not None:
        adapted = _Classifier(module, classifier, name)
    elif features is not None:
        adapted = _Encoder(module, features, pool, name, transform.input_size)
    return Backbone(adapted.train(module.training), transform, name)


class _Classifier(nn.Module):
    """A classifier whose last layer has an unusual name."""

    def __init__(self, module: nn.Module, path: str, name: str) -> None:
        super().__init__()
        self.module = module
        layers = [key for key, each in module.named_modules() if isinstance(each, nn.Linear)]
        if path not in layers:
            raise UserError(
                f'model {name}: classifier "{path}": expected one of its linear layers, '
                f"{', '.join(layers) or 'it has none'}.{did_you_mean(path, layers)}"
            )
        self.path = path

    @property
    def head(self) -> nn.Module:
        """Where ``Backbone`` looks for the last layer."""
        return self.module.get_submodule(self.path)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C] of images [B, 3, H, W]."""
        answer = self.module(images)
        logits: Tensor = answer if isinstance(answer, Tensor) else _part(answer, "logits", "")
        return logits

    def extra_repr(self) -> str:
        """What names this model's stored outputs, too."""
        return f"classifier={self.path}"


class _Encoder(nn.Module):
    """A network that gives features alone, with a classifier of no classes."""

    def __init__(
        self, module: nn.Module, answer: str, pool: Pooling | None, name: str,
        size: tuple[int, int],
    ) -> None:  # fmt: skip
        super().__init__()
        self.module, self.answer, self.pool, self.name = module, answer, pool, name
        weight = next(module.parameters(), None)
        if weight is None:
            raise UserError(f"model {name}: expected a model with weights, got none")
        training = module.training
        with torch.no_grad():
            images = torch.zeros(1, 3, *size, dtype=weight.dtype, device=weight.device)
            width = self._features(module.eval()(images)).shape[1]
        module.train(training)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of an empty layer
            self.head = nn.Linear(width, 0, dtype=weight.dtype, device=weight.device)

    def forward(self, images: Tensor) -> Tensor:
        """No logits [B, 0]; the features are what enters the head."""
        logits: Tensor = self.head(self._features(self.module(images)))
        return logits

    def _features(self, answer: object) -> Tensor:
        found = _part(answer, self.answer, self.name)
        if self.pool == "mean" and found.ndim == 4:
            found = found.mean(dim=(2, 3))
        elif self.pool is not None and found.ndim == 3:
            found = found[:, 0] if self.pool == "first" else found.mean(dim=1)
        if found.ndim != 2:
            raise UserError(
                f"model {self.name}: expected features [B, D], got {list(found.shape)}; give "
                'pool="mean", or "first" for the first token'
            )
        return found

    def extra_repr(self) -> str:
        """What names this model's stored outputs, too."""
        return f"features={self.answer}, pool={self.pool}"


def _part(answer: object, key: str, name: str) -> Tensor:
    """A part of what a network returned, by key or attribute; "" for all of it."""
    found = answer
    if key:
        found = answer.get(key) if isinstance(answer, Mapping) else getattr(answer, key, None)
    if not isinstance(found, Tensor):
        got = ", ".join(answer) if isinstance(answer, Mapping) else type(answer).__name__
        raise UserError(f'model {name}: expected a tensor "{key}" in its answer, got {got}')
    return found
