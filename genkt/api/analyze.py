"""``genkt.analyze``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genkt.analysis.analyze_models import Analysis, run_analysis
from genkt.api.objects import call_text, given_settings
from genkt.config.analysis_settings import AnalyzeConfig
from genkt.config.read_config import read_config


def analyze(models: str | Path | Sequence[str | Path], *words: str, **settings: Any) -> Analysis:
    """What ``genkt analyze`` does, returning every number; ``out=None`` writes nothing.

    Args:
        models: run folders, timm names, ``local-dir:PATH`` or ``genkt:NAME``.
        words: settings as on the command line, e.g. ``"transfer.before=runs/a"``.

    Raises:
        UserError: every fault of the settings at once, or models and data that do not fit.

    Example:
        >>> import genkt
        >>> found = genkt.analyze(["genkt:digits_teacher"], data="digits", out=None, device="cpu")
        >>> found.data.models[0].probe.value > 0.9
        True
    """
    several = [models] if isinstance(models, (str, Path)) else list(models)
    named = {"models": several, **settings}
    config = read_config(AnalyzeConfig, "analyze", [*given_settings(named), *words])
    return run_analysis(config, call_text("analyze", words, named))
