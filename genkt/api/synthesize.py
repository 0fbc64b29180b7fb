"""``genkt.synthesize``: the settings of the command line, and own objects."""

from __future__ import annotations

from typing import Any

from genkt.api.objects import ModelSetting, call_text, given_settings, named_arguments
from genkt.cli.synthesize import as_synthesis
from genkt.config.read_config import read_config
from genkt.config.set_command_settings import SynthesizeConfig
from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.generative.completer import ImageCompleter
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
    named = named_arguments(settings, data=data, generator=generator, teacher=teacher)
    said = as_synthesis([*given_settings(named), *words])
    config = read_config(SynthesizeConfig, "synthesize", said)
    if config.dry_run:
        raise UserError("dry_run: estimates are made on the command line")
    return run_synthesis(config, call_text("synthesize", words, named))
