"""``genkt analyze models=[A,B,C] data=...``."""

from __future__ import annotations

import shlex

from genkt.cli.app import run_command
from genkt.config.analysis_settings import AnalyzeConfig


def run(words: list[str]) -> None:
    """Analyse the models, print the tables and where the report is."""
    command = shlex.join(["genkt", "analyze", *words])

    def task(config: AnalyzeConfig) -> None:
        from genkt.analysis.analyze_models import run_analysis

        print(run_analysis(config, command).text())

    run_command(AnalyzeConfig, "analyze", words, task)
