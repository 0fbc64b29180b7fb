"""The Python API of ``genkt synthesize``: the same words and settings, plus your own objects."""

from __future__ import annotations

from typing import Any

from torch import nn

from genkt.api.transfer import GIVEN_SPLITS, ModelSetting, as_backbone, as_words
from genkt.cli.app import read_config
from genkt.cli.synthesize import as_synthesis
from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.generative.completer import ImageCompleter
from genkt.synthesis.prepare_synthesis import GivenModels, SynthesizeConfig
from genkt.synthesis.prepare_synthesis import synthesize as run_synthesis
from genkt.transfer_set.composition import TransferSet
from genkt.types import UserError


def synthesize(
    *words: str,
    data: ImageSet | Splits | str | dict[str, Any] | None = None,
    generator: ImageCompleter | str | None = None,
    teacher: ModelSetting | None = None,
    **settings: Any,
) -> TransferSet:
    """What ``genkt synthesize`` does, returning the set.

    Args:
        words: settings as on the command line, e.g. ``"synthesis.samples_per_mask=2"``.
        data: a name of ``configs/data``, a dict with such a name and its settings, ``Splits``, or
            the very images to start from.
        generator: a folder, ``genkt:NAME``, or an object such as ``genkt.load_generator`` gives.
        teacher: of filters and ``deep_inversion``: a timm name, a dict of settings, or a module.
        settings: any other top-level key; dicts set inner keys: ``files={"format": "png"}``.

    Raises:
        UserError: every fault of the settings at once, one line each.

    Example:
        >>> import tempfile, genkt
        >>> from genkt.generative.generator import Generator
        >>> from genkt.generative.vqgan import VQGAN, build_vqmodel
        >>> untrained = build_vqmodel(num_codes=16, code_dim=4, channels=(8, 8), size=16)
        >>> found = genkt.synthesize(
        ...     method="irf", data="digits", max_sources=3, generator=Generator(VQGAN(untrained)),
        ...     device="cpu", out=tempfile.mkdtemp() + "/set")
        >>> len(found), found.images.load(0).size
        (3, (16, 16))
    """
    named = {"data": data, "generator": generator, "teacher": teacher, **settings}
    named = {key: value for key, value in named.items() if value is not None or key in settings}
    given = GivenModels(
        data=data if isinstance(data, (ImageSet, Splits)) else None,
        generator=None if generator is None or isinstance(generator, str) else generator,
        teacher=as_backbone(teacher) if isinstance(teacher, nn.Module) else None,
    )
    objects = {"data": given.data, "generator": given.generator, "teacher": given.teacher}
    plain = {key: value for key, value in named.items() if objects.get(key) is None}
    all_words = [word for key, value in plain.items() for word in as_words(key, value)]
    if given.data is not None:
        all_words = GIVEN_SPLITS + all_words
    if given.generator is not None:
        all_words.append("generator=given")
    config = read_config(SynthesizeConfig, "synthesize", as_synthesis(all_words) + list(words))
    if config.dry_run:
        raise UserError("dry_run: estimates are made on the command line")
    return run_synthesis(config, _shown(words, named), given)


def _shown(words: tuple[str, ...], named: dict[str, Any]) -> str:
    """The call as the card shows it; objects by their class."""
    arguments = [repr(word) for word in words]
    for key, value in named.items():
        is_plain = isinstance(value, (str, int, float, dict, list, tuple))
        arguments.append(f"{key}={value!r}" if is_plain else f"{key}=<{type(value).__name__}>")
    return f"genkt.synthesize({', '.join(arguments)})"
