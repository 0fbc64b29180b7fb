"""``genkt.compare``."""

from __future__ import annotations

from typing import Any

from genkt.api.objects import call_text, given_settings
from genkt.cli.compare import read_comparison
from genkt.comparison.compare_arms import CompareResult, run_compare
from genkt.types import UserError


def compare(*words: str, **settings: Any) -> CompareResult:
    """What ``genkt compare`` does, returning every number.

    The arms are trained in processes, so a script calls this below ``if __name__ == "__main__":``
    or gives ``executor="inline"``.

    Args:
        words: settings as on the command line, e.g. ``"train.steps=200"``.
        settings: any top-level key of ``genkt compare`` or, for all arms, of ``genkt transfer``;
            dicts set inner keys: ``train={"steps": 200}``.

    Returns:
        The arms with their students' figures, and the folder of the comparison. Arms that ended
        early are in ``result.data.failed``.

    Raises:
        UserError: every fault of the settings at once, one line each; or no arm ended well.

    Example:
        >>> import tempfile, genkt
        >>> result = genkt.compare(
        ...     methods=["logit_kd", "l2_feature"], transfer_sets=["labelled"], draws=1,
        ...     train={"steps": 1, "batch_size": 20}, finetune={"steps": 1}, device="cpu",
        ...     executor="inline", out=tempfile.mkdtemp() + "/comparison")
        >>> [arm.name for arm in result.data.arms]
        ['stl', 'logit_kd-labelled', 'l2_feature-labelled']
        >>> (result.out / "compare.html").is_file()
        True
    """
    found = read_comparison([*given_settings(settings), *words])
    if found.config.dry_run:
        raise UserError("dry_run: the arms are listed on the command line")
    command = call_text("compare", words, settings)
    return run_compare(found.config, found.arms, command=command, words=found.words)
