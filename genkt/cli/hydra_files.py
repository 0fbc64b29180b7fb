"""How hydra reads YAML here: numbers keep how they are written, faults name file and line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import OmegaConf

from genkt.settings.faults import Fault
from genkt.settings.written import as_texts, as_values, kept, read_yaml

_REFERENCE = re.compile(r"\$\{[^${}:]*\}")
_FOR_HYDRA = ("defaults", "hydra")
"""Keys that hydra reads itself, and as plain YAML."""


class WrittenFiles(FileConfigSource):
    """A folder of YAML files, found as ``genkt://FOLDER``."""

    @staticmethod
    def scheme() -> str:
        """How the addresses of such folders start."""
        return "genkt"

    def load_config(self, config_path: str) -> ConfigResult:
        """One file.

        Raises:
            UserError: it is no YAML.
        """
        path = Path(os.path.realpath(os.path.join(self.path, config_path)))
        path = path if path.suffix == ".yaml" else path.with_name(f"{path.name}.yaml")
        content = read_yaml(path)
        header = ConfigSource._get_header_dict(path.read_text(encoding="utf-8")[:512])
        if (header.get("package") or "").partition(".")[0] == "hydra":
            content = as_values(kept(content))
        content |= {key: as_values(kept(content[key])) for key in _FOR_HYDRA if key in content}
        return ConfigResult(
            config=OmegaConf.create(content),
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=header,
        )


def folder_address(folder: Path) -> str:
    """What hydra's search path calls a folder of YAML files."""
    if WrittenFiles not in Plugins.instance().discover(ConfigSource):
        Plugins.instance().register(WrittenFiles)
        # a sweep's folder, for configs/hydra/genkt.yaml
        OmegaConf.register_new_resolver("genkt.text", lambda value: as_texts(kept(value)))
    return f"{WrittenFiles.scheme()}://{folder}"


def resolver_faults(config: Any) -> list[Fault]:
    """One a setting whose YAML asks for more than the value of another setting.

    ``${train.lr}`` is another setting; ``${oc.env:NAME}`` would read this machine, and show it.
    """
    raw = OmegaConf.to_container(config, resolve=False)
    return [
        Fault(key, f'expected ${{KEY}} with the key of a setting, got "{text}"; resolvers are off')
        for key, text in _texts(raw, "")
        if "${" in _REFERENCE.sub("", _REFERENCE.sub("", text.replace("\\${", "")))
    ]


def _texts(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for k, v in value.items() for pair in _texts(v, f"{key}.{k}" if key else k)]
    if isinstance(value, list):
        return [pair for i, v in enumerate(value) for pair in _texts(v, f"{key}[{i}]")]
    return [(key, value)] if isinstance(value, str) and "${" in value else []
