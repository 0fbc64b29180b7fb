"""How hydra reads YAML here: numbers keep how they are written, faults name file and line."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from genkt.settings.faults import Fault
from genkt.settings.written import as_texts, as_values, kept, read_yaml

_REFERENCE = re.compile(r"\$\{([^${}:]*)\}")
_PACKAGE = re.compile(r"#\s*@package\s+(\S+)\s*")
_FOR_HYDRA = ("defaults", "hydra")
"""Keys that hydra reads itself, and as plain YAML."""
_SCHEME = "genkt"
_VERSION = "1.3"
"""Of hydra, whose defaults count."""
_homes: ContextVar[Sequence[Path]] = ContextVar("homes", default=())
"""The folders of YAML files of the command that is being read."""


class WrittenFiles(ConfigSource):
    """A folder of YAML files, found as ``genkt://FOLDER``."""

    @staticmethod
    def scheme() -> str:
        """How the addresses of such folders start."""
        return _SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        """One file.

        Raises:
            UserError: it is no YAML.
        """
        path = self._file(config_path)
        content = read_yaml(path)
        package = _package(path)
        if (package or "").partition(".")[0] == "hydra":
            content = as_values(kept(content))
        content |= {key: as_values(kept(content[key])) for key in _FOR_HYDRA if key in content}
        return ConfigResult(
            config=OmegaConf.create(content),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header={"package": package},
        )

    def available(self) -> bool:
        """Whether the folder is there."""
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        """Whether the folder has a folder of that name."""
        return Path(self.path, config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        """Whether the folder has a file of that name, with or without its ending."""
        return self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The names of groups, files, or both in a folder of the folder."""
        inside = list(Path(self.path, config_path).iterdir())
        groups = [path.name for path in inside if path.is_dir()]
        files = [path.stem for path in inside if path.suffix == ".yaml" and path.is_file()]
        wanted = {ObjectType.GROUP: groups, ObjectType.CONFIG: files}
        return sorted(set(wanted[results_filter] if results_filter else groups + files))

    def _file(self, config_path: str) -> Path:
        path = Path(os.path.realpath(os.path.join(self.path, config_path)))
        return path if path.suffix == ".yaml" else path.with_name(f"{path.name}.yaml")


class WrittenHomes(SearchPathPlugin):
    """Puts the folders of the command that is being read where hydra looks for files."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Add them, the user's first."""
        for home in _homes.get():
            search_path.append(provider="genkt", path=f"{_SCHEME}://{home}")


def _package(path: Path) -> str | None:
    """Where the settings of a file go, by the comments at its start."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            return None
        if found := _PACKAGE.fullmatch(line.strip()):
            return found[1]
    return None


@contextmanager
def _looking_in(homes: Sequence[Path]) -> Iterator[None]:
    """Let hydra find the files of these folders; nothing of another hydra stays."""
    plugins = Plugins.instance()
    if WrittenFiles not in plugins.discover(ConfigSource):
        plugins.register(WrittenFiles)
        plugins.register(WrittenHomes)
        # a sweep's folder, for configs/hydra/genkt.yaml
        OmegaConf.register_new_resolver("genkt.text", lambda value: as_texts(kept(value)))
    GlobalHydra.instance().clear()
    token = _homes.set(homes)
    try:
        yield
    finally:
        _homes.reset(token)


def hydra_compose(primary: str, homes: Sequence[Path], overrides: Sequence[str]) -> Any:
    """The configuration of a primary file under overrides, hydra's own settings included."""
    with (
        _looking_in(homes),
        hydra.initialize(config_path=None, job_name="genkt", version_base=_VERSION),
    ):
        return hydra.compose(primary, list(overrides), return_hydra_config=True)


def hydra_sweep(
    primary: str, homes: Sequence[Path], overrides: Sequence[str], job: Callable[[Any], Any]
) -> None:
    """Run a job for each configuration of a sweep, by hydra's sweeper and launcher.

    Raises:
        SystemExit: hydra cannot; it has printed why.
    """
    application = hydra.main(config_path=None, config_name=primary, version_base=_VERSION)(job)
    words = sys.argv
    sys.argv = [words[0] if words else "genkt", "--multirun", *overrides]  # all that it reads
    try:
        with _looking_in(homes):
            application()
    finally:
        sys.argv = words


def reference_faults(config: Any) -> list[Fault]:
    """One a setting whose YAML asks for more than the value of another setting.

    ``${train.lr}`` is another setting; ``${oc.env:NAME}`` would read this machine, and show it.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    faults = []
    for key, text in _texts(raw, ""):
        bare = text.replace("\\${", "")
        if "${" in _REFERENCE.sub("", _REFERENCE.sub("", bare)):
            what = f'expected ${{KEY}} with the key of a setting, got "{text}"; resolvers are off'
            faults.append(Fault(key, what))
    return faults


def _texts(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for k, v in value.items() for pair in _texts(v, f"{key}.{k}" if key else k)]
    if isinstance(value, list):
        return [pair for i, v in enumerate(value) for pair in _texts(v, f"{key}[{i}]")]
    return [(key, value)] if isinstance(value, str) and "${" in value else []
