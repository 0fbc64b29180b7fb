"""One interface for all classifiers: features, feature map and logits in one forward pass."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from genkt.data.names import canonical
from genkt.data.views import ImageTransform
from genkt.disk import make_folder, require_free
from genkt.io import fingerprint, fingerprint_tensors
from genkt.models.feature_maps import spatial_map
from genkt.models.heads import (
    JoinedHeads,
    heads_of,
    join_heads,
    mean_of_heads,
    run_heads,
    without_data,
)
from genkt.types import ModelOutput, UserError, require_finite

_HEAD_NAMES = ("fc", "head", "heads", "classifier")


class Backbone(nn.Module):
    """A classifier seen through one interface, with its own input transform.

    Wraps a timm model (anything with ``forward_features``, ``forward_head`` and
    ``get_classifier``) or any module that ends in one linear layer named ``fc``, ``head``,
    ``heads`` or ``classifier`` (torchvision's models, most hand-written ones).

    Features are the vector that enters the classifier, computed once; logits are the classifier
    applied to exactly that vector, so dropout is drawn once. On construction the wrapper checks
    ``classifier(features) == model(x)`` and refuses a model where it does not hold.

    A timm model may have several heads (distilled, multi-branch families). Its logits are then
    what timm answers in evaluation mode, the mean of the heads, in training mode too; its features
    are the vectors that enter the heads, side by side. A vector that several heads read is there
    once.

    Args:
        model: the classifier; images [B, 3, H, W] float to logits [B, C].
        transform: how pictures become the model's input.
        name: shown in messages and reports.

    Attributes:
        channels_last: lay images out channels last in memory (see ``ModelSpec``).

    Raises:
        UserError: no linear classifier is found in the model, or the check above fails.

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
        self._map_seen: object = None
        self._joined: JoinedHeads | None = None  # where there are several heads
        self._own_head: nn.Linear | None = None
        self.width, self.num_classes = self._check()

    def forward(self, images: Tensor) -> ModelOutput:
        """Normalised images [B, 3, H, W] -> features [B, D], logits [B, C] and the feature map.

        The map is as the model gives it; ``spatial_map`` brings it into one form.
        """
        if not self._is_timm:
            return self._forward_capturing(images)
        feature_map = self.model.forward_features(images)  # type: ignore[operator]
        if self._joined is None:
            features = self.model.forward_head(feature_map, pre_logits=True)  # type: ignore[operator]
            return ModelOutput(features, self.classify(features), feature_map)
        features, logits = run_heads(self.model, feature_map)
        if self._own_head is not None:
            logits = self._own_head(features)
        return ModelOutput(features, logits, feature_map)

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
        if self._own_head is not None:
            logits = self._own_head(captured[-1])
        return ModelOutput(captured[-1], logits)

    def classify(self, features: Tensor) -> Tensor:
        """The classifier alone: features [B, D] -> logits [B, C]."""
        if self._own_head is not None:
            own: Tensor = self._own_head(features)
            return own
        if self._joined is not None:
            return self._joined.classify(self.model, features)
        classifier = self._classifier()
        if isinstance(classifier, nn.Conv2d):  # BiT and a few others classify by a 1x1 convolution
            logits: Tensor = classifier(features[:, :, None, None]).flatten(1)
        else:
            logits = mean_of_heads(classifier(features))
        return logits

    def answer_by(self, head: nn.Linear) -> None:
        """Compute logits with the given layer from now on; the model's own heads are not used.

        Args:
            head: [D] -> [C]; D is the model's feature width.
        """
        if head.in_features != self.width:
            raise UserError.of(
                f"model {self.name!r}",
                f"a head of {self.width} features",
                f"one of {head.in_features}",
            )
        self._own_head, self.num_classes = head, head.out_features

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
        pixels = self.transform.normalize(images).to(next(self.model.parameters()).dtype)
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
        more = ["channels last" if self.channels_last else ""]  # moves the last bits
        if self._own_head is not None:
            more.append(fingerprint_model(self._own_head))
        return fingerprint_model(self.model, *more)

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
        """The weights between features and logits (what a linear probe trains)."""
        if self._own_head is None and self._joined is not None:
            return [self.model.get_parameter(name) for name in self._joined.weights]
        return list((self._own_head or self._classifier()).parameters())

    def export(self, directory: str | Path, classes: tuple[str, ...] = ()) -> Path:
        """Write ``model.safetensors`` and ``config.json`` so that timm loads the folder.

        ``timm.create_model("local-dir:<directory>", pretrained=True)`` gives the model back with
        its input transform and class names. A model that is not timm's is saved as
        ``model.safetensors`` alone.
        """
        assert self._own_head is None, (
            "the exported model would not give the same answers as this one"
        )
        directory = Path(directory)
        make_folder(directory)
        size = sum(value.nbytes for value in self.model.state_dict().values())
        require_free(directory, size, "the exported model")  # timm's writer gives no reason
        if self.is_timm:
            from timm.models import save_for_hf  # type: ignore[attr-defined]

            settings = self.transform.as_dict()
            settings["input_size"] = (3, *self.transform.input_size)
            names = {"label_names": list(classes)} if classes else None
            handle = self.model.register_state_dict_post_hook(_unshare)  # type: ignore[no-untyped-call]
            try:
                save_for_hf(
                    self.model, str(directory), names, safe_serialization=True, data_config=settings
                )
            finally:
                handle.remove()
        else:
            from safetensors.torch import save_file

            state = self.model.state_dict()
            _unshare(self.model, state)
            save_file(state, directory / "model.safetensors")
        return directory

    def _classifier(self) -> nn.Module:
        """The head of a model with a single head."""
        return heads_of(self.model)[0] if self._is_timm else _last_linear(self.model, self.name)

    @torch.no_grad()
    def _check(self) -> tuple[int, int]:
        """Feature width and class count, after checking that both ways to the logits agree."""
        parameter = next(self.model.parameters(), None)
        if parameter is None:
            raise UserError(f"model {self.name!r}: expected a model with weights, got none")
        if not (heads_of(self.model) if self._is_timm else [self._classifier()]):
            raise UserError(f"model {self.name!r}: expected a classifier, got none")
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(1, 3, *self.transform.input_size, generator=generator)
        output, again, direct = self._both_ways(images.to(parameter.device, parameter.dtype))
        if not isinstance(direct, Tensor):
            raise UserError.of(
                f"model {self.name!r}", "logits [B, C]", f"a {type(direct).__name__}"
            )
        if output.features.dim() != 2 or direct.dim() != 2 or direct.shape != again.shape:
            raise UserError.of(
                f"model {self.name!r}",
                "features [B, D] and logits [B, C]",
                f"{tuple(output.features.shape)} and {tuple(direct.shape)}",
            )
        require_finite(direct, ["a random picture"], f"model {self.name!r}")
        if not torch.allclose(again, direct, rtol=1e-4, atol=1e-5):
            raise UserError(
                f"model {self.name!r}: classifier(features) differs from model(x); its family "
                "adds something after the classifier, which genkt does not support (where an arg "
                "leaves it out, set it, as use_aux_head=false for volo)"
            )
        self._map_seen = without_data(output.feature_map)
        return output.features.shape[1], direct.shape[1]

    def _both_ways(self, images: Tensor) -> tuple[ModelOutput, Tensor, object]:
        """In evaluation mode: the output, logits from its features, and the model's own answer."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        try:
            if self._is_timm and len(heads_of(self.model)) > 1:
                feature_map = self.model.forward_features(images)  # type: ignore[operator]
                self._joined = join_heads(self.model, feature_map)
            output, direct = self(images), self.model(images)
            again = output.logits if self._joined is None else self.classify(output.features)
        except (RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"model {self.name!r}: a forward pass on a {tuple(images.shape)} image failed: "
                f"{reason}"
            ) from error
        finally:
            for module, mode in modes:
                module.training = mode
        return output, again, direct


def _unshare(module: nn.Module, state: dict[str, Tensor], *_: object) -> None:
    """Give each tensor its own memory: safetensors refuses weights that two modules share."""
    for name, tensor in state.items():
        state[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _last_linear(model: nn.Module, name: str) -> nn.Module:
    for head in _HEAD_NAMES:
        part = getattr(model, head, None)
        if part is not None:
            linears = [module for module in part.modules() if isinstance(module, nn.Linear)]
            if linears:
                return linears[-1]
    raise UserError.of(
        f"model {name!r}",
        (
            "timm's forward_features / forward_head / get_classifier, or a linear layer in "
            f"an attribute named one of {', '.join(_HEAD_NAMES)}"
        ),
        f"a {type(model).__name__} without either",
    )


def fingerprint_model(model: nn.Module, *more: str) -> str:
    """Hash of what a model computes: architecture, every weight and buffer, and what is given."""
    kind = type(model)
    # genkt's own classes count as the same wherever they are in the package.
    module = "genkt" if kind.__module__.startswith("genkt.") else kind.__module__
    described = f"{module}.{kind.__qualname__}|{model}"
    described = re.sub(r" at 0x[0-9a-f]+", "", described)  # a function's place in memory
    return fingerprint(described, *more, fingerprint_tensors(model.state_dict()))


def transform_of(model: nn.Module) -> ImageTransform:
    """The evaluation transform that a timm model declares, at the size it was built for."""
    from timm.data.model_config import resolve_input_data_config

    return ImageTransform.from_timm(resolve_input_data_config(model))  # type: ignore[no-untyped-call]
