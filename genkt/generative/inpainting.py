"""Diffusion inpainting as a completer: diffusers' inpainting pipelines behind one interface."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from genkt.generative.completer import Completion, CompletionOptions, Seeds
from genkt.generative.masks import check_masks
from genkt.io import fingerprint, fingerprint_tensors
from genkt.types import UserError

_WHITE_IS_VISIBLE = ("RePaintPipeline",)
"""Pipelines whose masks are white where the picture stays; everywhere else white is hidden."""


class Inpainter:
    """Draws the hidden part of pictures by diffusion (an ``ImageCompleter``).

    Pictures are resized to the pipeline's side and back; they have no tokens. Each picture is
    drawn in a call of its own, from one ``torch.Generator``: so no batch, order or number of
    workers changes it. Of the options only ``keep_visible`` applies: the others are about
    tokens.

    Args:
        pipeline: a diffusers pipeline that takes ``image`` and ``mask_image``.
        prompt: a description of every picture; "" for none.
        num_steps: denoising steps.
        guidance: weight of the prompt (``guidance_scale``); None: the pipeline's own.
        strength: 1 draws the hidden part from noise alone, less starts from what the picture
            shows there; None: the pipeline's own.
        side: pixels of the square pictures the pipeline works on; None: its own.
        size: side of the pictures it takes and gives; None: ``side``.
        name: shown in cards and messages.

    Raises:
        UserError: a pipeline that does not inpaint, or does not take one of the values.
    """

    def __init__(
        self, pipeline: Any, *, prompt: str = "", num_steps: int = 50,
        guidance: float | None = None, strength: float | None = None,
        side: int | None = None, size: int | None = None, name: str = "inpainter",
    ) -> None:  # fmt: skip
        self.name = name
        self.pipeline = _as_inpainting(pipeline, name)
        self.side = side or self._own_side()
        self.size = size or self.side
        if num_steps < 1:
            raise UserError.of("num_steps", "at least 1", num_steps)
        if strength is not None and not 0 < strength <= 1:
            raise UserError.of("strength", "a number in (0, 1]", f"{strength:g}")
        wanted = {"prompt": prompt or None, "guidance_scale": guidance, "strength": strength}
        accepted = inspect.signature(type(self.pipeline).__call__).parameters
        refused = [key for key in wanted if wanted[key] is not None and key not in accepted]
        if refused:
            raise UserError(f"{self._title}: does not take {', '.join(refused)}")
        self._words: dict[str, Any] = {k: v for k, v in wanted.items() if v is not None}
        self._words["num_inference_steps"] = num_steps
        if "prompt" in accepted:
            self._words.setdefault("prompt", "")
        if "height" in accepted:
            self._words |= {"height": self.side, "width": self.side}
        self.pipeline.set_progress_bar_config(disable=True)

    @staticmethod
    def load(
        name: str | Path, *, prompt: str = "", num_steps: int = 50,
        guidance: float | None = None, strength: float | None = None,
        side: int | None = None, size: int | None = None, device: torch.device | str = "cpu",
    ) -> Inpainter:  # fmt: skip
        """Read a pipeline in float32: a folder with ``model_index.json``, or a name on the hub.

        A text-to-image pipeline becomes the inpainting one of its family. No safety checker is
        loaded: it would put black pictures into the set.

        Raises:
            UserError: it cannot be found, reached or read, or needs a package that is missing.
        """
        with _quiet(), _explained(str(name)):
            from diffusers import DiffusionPipeline

            index = DiffusionPipeline.load_config(str(name))
            _require_packages(index.get("_class_name", ""))
            without = {"safety_checker": None, "requires_safety_checker": False}
            words = {key: value for key, value in without.items() if key in index}
            read: Any = DiffusionPipeline.from_pretrained
            pipeline = read(str(name), **words).to(device, torch.float32)
        return Inpainter(
            pipeline, prompt=prompt, num_steps=num_steps, guidance=guidance,
            strength=strength, side=side, size=size, name=str(name),
        )  # fmt: skip

    def to(self, device: torch.device | str) -> Inpainter:
        """Move the networks; returns itself."""
        self.pipeline.to(device)
        return self

    def complete_images(
        self, images: Tensor, masks: Tensor, seeds: Seeds, options: CompletionOptions
    ) -> Completion:
        """See ``ImageCompleter``; pictures of any one size, not only of ``size``.

        Args:
            images: [B, 3, H, W] uint8.  masks: [B, H, W] bool, True is hidden.
            seeds: of the S samples of each picture.

        Raises:
            UserError: masks that do not fit, another number of seeds, or a pipeline that fails.
        """
        check_masks(masks, images)
        if len(seeds) != len(images):
            raise UserError.of("seeds", f"{len(images)}, one row per picture", len(seeds))
        images, masks = images.cpu(), masks.cpu()
        drawn = torch.stack([
            torch.stack([self._draw(image, mask, seed) for seed in row])
            for image, mask, row in zip(images, masks, seeds, strict=True)
        ])  # fmt: skip
        if options.keep_visible:
            drawn = torch.where(masks[:, None, None], drawn, images[:, None])
        return Completion(drawn)

    def fingerprint(self) -> str:
        """Hash of everything that decides its pictures: weights, schedule, prompt, sides."""
        parts: list[str] = [type(self.pipeline).__name__, str(sorted(self._words.items()))]
        for key, part in sorted(self.pipeline.components.items()):
            if isinstance(part, nn.Module):
                described = fingerprint_tensors(part.state_dict())
            elif callable(part) and "tokenizer" in key:
                described = str(list(part(self._words.get("prompt", "")).input_ids))
            else:
                described = str(sorted(dict(getattr(part, "config", {})).items(), key=str))
            parts += [key, described]
        return fingerprint(*parts, str(self.side))

    def _draw(self, image: Tensor, mask: Tensor, seed: int) -> Tensor:
        """One completion [3, H, W] uint8 of one picture."""
        height, width = mask.shape
        sides = (self.side, self.side)
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        # Of each pixel of the pipeline: hidden where any pixel that it touches is hidden.
        hidden = F.adaptive_max_pool2d(mask[None].float(), sides)[0].bool()
        white = ~hidden if type(self.pipeline).__name__ in _WHITE_IS_VISIBLE else hidden
        try:
            pixels = self.pipeline(
                image=_resized(picture, sides),
                mask_image=Image.fromarray(white.to(torch.uint8).mul(255).numpy()),
                generator=torch.Generator().manual_seed(seed),
                output_type="np",
                **self._words,
            ).images[0]
        except Exception as error:  # every pipeline checks and fails in its own ways
            raise UserError(f"{self._title}: failed: {_one_line(error)}") from error
        completed = Image.fromarray((np.clip(pixels, 0, 1) * 255).round().astype(np.uint8))
        array = np.array(_resized(completed, (width, height)))
        return torch.from_numpy(array).permute(2, 0, 1)

    @property
    def _title(self) -> str:
        return f"inpainter {self.name} ({type(self.pipeline).__name__})"

    def _own_side(self) -> int:
        """Pixels along the side that the pipeline was trained at."""
        denoiser = getattr(self.pipeline, "unet", None) or getattr(
            self.pipeline, "transformer", None
        )
        latent = getattr(getattr(denoiser, "config", None), "sample_size", None) or getattr(
            self.pipeline, "default_sample_size", None
        )
        if not isinstance(latent, int):
            raise UserError(f"{self._title}: does not tell its size; give side=")
        return latent * int(getattr(self.pipeline, "vae_scale_factor", 1))


def _as_inpainting(pipeline: Any, name: str) -> Any:
    """The pipeline, or the inpainting pipeline on the same networks."""
    if "mask_image" in inspect.signature(type(pipeline).__call__).parameters:
        return pipeline
    from diffusers import AutoPipelineForInpainting

    try:
        return AutoPipelineForInpainting.from_pipe(pipeline)
    except (ValueError, AttributeError) as error:
        raise UserError.of(
            f"inpainter {name}",
            "a pipeline that inpaints (StableDiffusionInpaintPipeline, for example)",
            f"{type(pipeline).__name__}, whose family has none",
        ) from error


def _resized(picture: Image.Image, sides: tuple[int, int]) -> Image.Image:
    """The picture at (width, height); itself where it has that size."""
    if picture.size == sides:
        return picture
    return picture.resize(sides, Image.Resampling.BICUBIC)


@contextlib.contextmanager
def _explained(name: str) -> Iterator[None]:
    """Whatever loading a pipeline raises, as one line."""
    try:
        yield
    except ImportError as error:
        raise UserError(
            f"inpainter {name}: needs a package that is missing; pip install 'genkt[inpainting]' "
            f"({_one_line(error)})"
        ) from error
    except Exception as error:  # diffusers and the hub's client raise anything
        path = Path(name).is_dir() or name.startswith((".", "/", "~")) or name.count("/") > 1
        expected = (
            "a folder that a diffusers pipeline was saved in (model_index.json and its parts)"
            if path
            else "a folder, or a pipeline on the hub that can be reached or was fetched before"
        )
        raise UserError(f"inpainter {name}: expected {expected}: {_one_line(error)}") from error


def _require_packages(class_name: str) -> None:
    """Raise where diffusers only has a stand-in for a pipeline, as a package of its is missing.

    Raises:
        ImportError: names the package.
    """
    import diffusers

    needed = getattr(getattr(diffusers, class_name, None), "_backends", ())
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    if missing:
        raise ImportError(f"{class_name} needs {', '.join(missing)}")


def _one_line(error: BaseException, most: int = 200) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else text[:most] + "..."


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No bars and no advice on standard error while a pipeline is loaded."""
    with contextlib.ExitStack() as undo, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hub = logging.getLogger("huggingface_hub")
        undo.callback(hub.setLevel, hub.level)
        hub.setLevel(logging.ERROR)
        for package in ("diffusers", "transformers"):
            if importlib.util.find_spec(package) is None:
                continue
            its: Any = importlib.import_module(f"{package}.utils.logging")
            undo.callback(its.set_verbosity, its.get_verbosity())
            its.set_verbosity(logging.ERROR)
            if its.is_progress_bar_enabled():
                undo.callback(its.enable_progress_bar)
                its.disable_progress_bar()
        yield
