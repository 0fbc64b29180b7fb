"""One face for every classifier: features, feature map and logits from a single forward pass."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from genkt.data.names import canonical
from genkt.data.views import ImageTransform
from genkt.io import fingerprint, fingerprint_tensors
from genkt.models.feature_maps import spatial_map
from genkt.types import ModelOutput, UserError

_HEAD_NAMES = ("fc", "head", "heads", "classifier")


class Backbone(nn.Module):
    """A classifier seen through one interface, with its own input transform.

    Wraps a timm model (anything with ``forward_features``, ``forward_head`` and
    ``get_classifier``) or any module that ends in one linear layer named ``fc``, ``head``,
    ``heads`` or ``classifier`` (torchvision's models, most hand-written ones).

    Features are the vector that enters the classifier, computed once; logits are the classifier
    applied to exactly that vector, so dropout is drawn once. On construction the wrapper checks
    ``classifier(features) == model(x)`` and refuses a model where it does not hold.

    Args:
        model: the classifier; images [B, 3, H, W] float to logits [B, C].
        transform: how pictures become the model's input.
        name: shown in messages and reports.

    Attributes:
        channels_last: lay images out channels last in memory (see ``ModelSpec``).

    Raises:
        UserError: the model has no single linear classifier, or the check above fails.

    Example:
        >>> import timm
        >>> from genkt.data.views import ImageTransform
        >>> tiny = timm.create_model("resnet18", layers=[1, 1, 1, 1], channels=[4, 4, 8, 8],
        ...                          num_classes=3)
        >>> half = (0.5, 0.5, 0.5)
        >>> model = Backbone(tiny, ImageTransform((32, 32), half, half, "bilinear", 1.0), "tiny")
        >>> out = model(torch.zeros(2, 3, 32, 32))
        >>> tuple(out.features.shape), tuple(out.logits.shape), model.width, model.num_classes
        ((2, 8), (2, 3), 8, 3)
    """

    def __init__(self, model: nn.Module, transform: ImageTransform, name: str) -> None:
        super().__init__()
        self.model = model
        self.transform = transform
        self.name = name
        self.frozen = False
        self.channels_last = False
        self._is_timm = all(
            hasattr(model, part) for part in ("forward_features", "forward_head", "get_classifier")
        )
        self.training = model.training
        self._map_seen: Tensor | None = None
        self.width, self.num_classes = self._check()

    def forward(self, images: Tensor) -> ModelOutput:
        """Normalised images [B, 3, H, W] -> features [B, D], logits [B, C] and the feature map.

        The map is as the model gives it; ``spatial_map`` brings it into one form.
        """
        if not self._is_timm:
            return self._forward_capturing(images)
        feature_map = self.model.forward_features(images)  # type: ignore[operator]
        features = self.model.forward_head(feature_map, pre_logits=True)  # type: ignore[operator]
        return ModelOutput(features, self.classify(features), feature_map)

    def _forward_capturing(self, images: Tensor) -> ModelOutput:
        captured: list[Tensor] = []
        # For this pass only: a lasting hook would hold the last batch and its graph.
        handle = self._classifier().register_forward_pre_hook(
            lambda _, inputs: captured.append(inputs[0])
        )
        try:
            logits = self.model(images)
        finally:
            handle.remove()
        if not captured:
            raise RuntimeError("its forward pass does not call the classifier")
        return ModelOutput(captured[-1], logits)

    def classify(self, features: Tensor) -> Tensor:
        """The classifier alone: features [B, D] -> logits [B, C]."""
        classifier = self._classifier()
        if isinstance(classifier, nn.Conv2d):  # BiT and a few others classify by a 1x1 convolution
            logits: Tensor = classifier(features[:, :, None, None]).flatten(1)
        else:
            logits = classifier(features)
        return logits

    def spatial_map(self, output: ModelOutput) -> Tensor:
        """The feature map of an output of this model as [B, D, H', W'], without prefix tokens.

        Raises:
            UserError: the model gives no map of places.
        """
        return self._spatial(output.feature_map)

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """(D, H', W') of ``spatial_map`` at the transform's input size.

        Raises:
            UserError: the model gives no map of places.
        """
        _, channels, height, width = self._spatial(self._map_seen).shape
        return channels, height, width

    @property
    def map_width(self) -> int | None:
        """D of ``spatial_map``; None where the model gives no map of places."""
        try:
            return self.map_shape[0]
        except UserError:
            return None

    def _spatial(self, feature_map: object) -> Tensor:
        size = self.transform.input_size
        return spatial_map(feature_map, self.model, input_size=size, name=self.name)

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> the float input this model was trained on, on the same device."""
        pixels = self.transform.normalize(images)
        return (
            pixels.contiguous(memory_format=torch.channels_last) if self.channels_last else pixels
        )

    def freeze(self) -> Backbone:
        """No gradients, and evaluation mode for good: batch-norm statistics never move."""
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> Backbone:
        """As ``nn.Module.train``, but a frozen model stays in evaluation mode."""
        super().train(mode and not self.frozen)
        return self

    def fingerprint(self) -> str:
        """Identity of what this model computes: architecture, every weight and buffer."""
        layout = "channels last" if self.channels_last else ""  # moves the last bits
        return fingerprint_model(self.model, layout)

    @property
    def is_timm(self) -> bool:
        """Whether ``export`` writes a folder that timm loads."""
        return hasattr(self.model, "pretrained_cfg")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names that its files give, as data spell them; none where they give none."""
        names = getattr(self.model, "pretrained_cfg", {}).get("label_names") or ()
        return tuple(canonical(name) for name in names)

    @property
    def num_parameters(self) -> int:
        """How many weights the model has."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def classifier_parameters(self) -> list[nn.Parameter]:
        """The head's weights (what a linear probe trains)."""
        return list(self._classifier().parameters())

    def export(self, directory: str | Path, classes: tuple[str, ...] = ()) -> Path:
        """Write ``model.safetensors`` and ``config.json`` so that timm loads the folder.

        ``timm.create_model("local-dir:<directory>", pretrained=True)`` gives the model back with
        its input transform and class names. A model that is not timm's is saved as
        ``model.safetensors`` alone.
        """
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        if self.is_timm:
            from timm.models import save_for_hf  # type: ignore[attr-defined]

            settings = self.transform.as_dict()
            settings["input_size"] = (3, *self.transform.input_size)
            names = {"label_names": list(classes)} if classes else None
            save_for_hf(
                self.model, str(directory), names, safe_serialization=True, data_config=settings
            )
        else:
            from safetensors.torch import save_file

            state = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
            save_file(state, directory / "model.safetensors")
        return directory

    def _classifier(self) -> nn.Module:
        if self._is_timm:
            classifier = self.model.get_classifier()  # type: ignore[operator]
        else:
            classifier = _last_linear(self.model, self.name)
        if not isinstance(classifier, nn.Module) or isinstance(classifier, nn.ModuleList):
            raise UserError(
                f"model {self.name!r}: expected one classifier, it has several (a distilled or "
                "multi-branch family); choose the plain variant, e.g. deit_tiny_patch16_224 for "
                "deit_tiny_distilled_patch16_224"
            )
        return classifier

    @torch.no_grad()
    def _check(self) -> tuple[int, int]:
        """Feature width and class count, after checking that both ways to the logits agree."""
        parameter = next(self.model.parameters(), None)
        if parameter is None:
            raise UserError(f"model {self.name!r}: expected a model with weights, it has none")
        modes = [(module, module.training) for module in self.model.modules()]
        self._classifier()
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(1, 3, *self.transform.input_size, generator=generator)
        images = images.to(parameter.device, parameter.dtype)
        try:
            self.model.eval()
            output = self(images)
            direct = self.model(images)
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"model {self.name!r}: a forward pass on a {tuple(images.shape)} image failed: "
                f"{reason}"
            ) from error
        finally:
            for module, mode in modes:
                module.training = mode
        if not isinstance(direct, Tensor):
            raise UserError(
                f"model {self.name!r}: expected logits [B, C], got a {type(direct).__name__}"
            )
        assert output.logits is not None
        if output.features.dim() != 2 or direct.dim() != 2 or direct.shape != output.logits.shape:
            raise UserError(
                f"model {self.name!r}: expected features [B, D] and logits [B, C], got "
                f"{tuple(output.features.shape)} and {tuple(direct.shape)}"
            )
        if not torch.allclose(output.logits, direct, rtol=1e-4, atol=1e-5):
            raise UserError(
                f"model {self.name!r}: classifier(features) differs from model(x); its family "
                "adds something after the classifier, which genkt does not support"
            )
        seen = output.feature_map
        self._map_seen = torch.empty_like(seen, device="meta") if torch.is_tensor(seen) else None
        return output.features.shape[1], direct.shape[1]


def _last_linear(model: nn.Module, name: str) -> nn.Module:
    for head in _HEAD_NAMES:
        part = getattr(model, head, None)
        if part is not None:
            linears = [module for module in part.modules() if isinstance(module, nn.Linear)]
            if linears:
                return linears[-1]
    raise UserError(
        f"model {name!r}: expected timm's forward_features / forward_head / get_classifier, or a "
        f"linear layer in an attribute named one of {', '.join(_HEAD_NAMES)}"
    )


def fingerprint_model(model: nn.Module, *more: str) -> str:
    """Hash of what a model computes: architecture, every weight and buffer, and what is given."""
    described = f"{type(model).__module__}.{type(model).__qualname__}|{model}"
    described = re.sub(r" at 0x[0-9a-f]+", "", described)  # a function's place in memory
    return fingerprint(described, *more, fingerprint_tensors(model.state_dict()))


def transform_of(model: nn.Module) -> ImageTransform:
    """The evaluation transform that a timm model declares, at the size it was built for."""
    from timm.data.model_config import resolve_input_data_config

    return ImageTransform.from_timm(resolve_input_data_config(model))  # type: ignore[no-untyped-call]
