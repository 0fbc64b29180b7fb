"""What every command shares: compose, check everything, run once or as a hydra sweep."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from genkt.cli.compose import (
    MODEL_GROUPS,
    Words,
    compose,
    config_homes,
    hydra_words,
    search_path,
    sort_words,
)
from genkt.cli.schema import parse
from genkt.types import UserError

Config = TypeVar("Config")


def read_config(kind: type[Config], command: str, words: list[str]) -> Config:
    """The typed settings a command line stands for.

    Raises:
        UserError: one line a fault, all faults at once.
    """
    faults: list[str] = []
    plain = compose(command, sort_words(words, command), faults)
    required = {fault.split(":")[0] for fault in faults if ": required;" in fault}
    found: list[str] = []
    config = parse(kind, plain, "", found) if plain else None
    faults += [fault for fault in found if fault.split(":")[0] not in required]
    faults += _model_faults(plain)
    if faults:
        raise UserError("\n".join(dict.fromkeys(faults)))
    assert isinstance(config, kind)
    return config


def _model_faults(plain: dict[str, Any]) -> list[str]:
    """What is wrong with the names of models, before anything is built."""
    faults = []
    for group in MODEL_GROUPS:
        names = (plain.get(group) or {}).get("model") or []
        for name in [names] if isinstance(names, str) else names:
            from genkt.models.load import name_fault

            if isinstance(name, str) and (fault := name_fault(name)):
                faults.append(f"{group}: {fault}")
    return faults


def run_command(
    kind: type[Config], command: str, words: list[str], task: Callable[[Config], float | None]
) -> None:
    """Run ``task`` on the settings the words stand for; with -m, on each of a sweep's.

    A single run is composed and checked here, before any folder is made. A sweep goes through
    hydra, so that its sweepers and launchers work; ``task`` returns the metric they read.
    """
    sorted_words = sort_words(words, command)
    if sorted_words.multirun:
        _sweep(kind, command, sorted_words, task)
    else:
        task(read_config(kind, command, words))


def _sweep(
    kind: type[Config], command: str, words: Words, task: Callable[[Config], float | None]
) -> None:
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig, OmegaConf

    failed: list[Exception] = []

    def application(config: DictConfig) -> float | None:
        """One job of the sweep; its folder is a numbered one inside ``out``."""
        try:
            plain: Any = OmegaConf.to_container(config, resolve=True)
            plain.pop("experiment", None)
            plain["out"] = HydraConfig.get().runtime.output_dir
            faults: list[str] = []
            typed = parse(kind, plain, "", faults)
            if faults:
                raise UserError("\n".join(faults))
            return task(typed)
        except Exception as error:  # hydra would swallow it; raised again below
            failed.append(error)
            return None

    if words.faults:
        raise UserError("\n".join(words.faults))
    homes = config_homes(words.config_dir)
    primary = words.config_name or command
    directory = next((home for home in homes if (home / f"{primary}.yaml").is_file()), homes[0])
    before = sys.argv
    sys.argv = [f"genkt {command}", "-m", *search_path(homes, directory)]
    sys.argv += hydra_words(words.overrides)
    try:
        hydra.main(version_base="1.3", config_path=str(directory), config_name=primary)(
            application
        )()
    finally:
        sys.argv = before
    if failed:
        raise failed[0]
