"""Help pages: the commented YAML of a command is its documentation."""

from __future__ import annotations

import itertools

from genkt.io import resource


def command_page(command: str) -> str:
    """Every setting of a command with its default and meaning, then its groups' alternatives."""
    configs = resource("configs")
    lines = (configs / f"{command}.yaml").read_text(encoding="utf-8").splitlines()
    header = [line.lstrip("# ") for line in lines[: _header_length(lines)]]
    defaults, body = _split_defaults(lines[_header_length(lines) :])
    for name in [name for name in defaults if name.startswith("/")]:  # shared with other files
        path = configs / f"{name[1:].partition('@')[0]}.yaml"
        shared = path.read_text(encoding="utf-8").splitlines()
        body += shared[_header_length(shared) :]
    page = [*header, "", f"usage: genkt {command} key=value ...", ""]
    groups = [name for name in defaults if (configs / name).is_dir() and name != "hydra"]
    if groups:
        page.append("choices (each brings settings of its own, below):")
        page += [f"  {name + '=' + defaults[name]}" for name in groups]
        page.append("")
    page += ["settings (key: default, write key=value; inner ones with a dot: train.lr=1e-3):"]
    page += [f"  {line}" for line in body if line.strip()]
    for name in groups:
        for path in sorted((configs / name).glob("*.yaml")):
            page += ["", f"{name}={path.stem}"]
            _, shown = _split_defaults(path.read_text(encoding="utf-8").splitlines())
            if name == "experiment":
                shown = _title(shown)
            page += [f"  {line}" for line in shown]
    page += [
        "",
        "--config-dir DIR puts your own YAML folder before genkt's (experiment=NAME reads",
        "DIR/experiment/NAME.yaml); --config-name NAME picks another primary file; -m sweeps",
        "comma-separated values (hydra multirun). GENKT_DEBUG=1 shows tracebacks.",
    ]
    return "\n".join(page)


def _title(lines: list[str]) -> list[str]:
    """The first lines of an experiment's comment: what it is, without its particulars."""
    comments = itertools.takewhile(lambda line: line.startswith("# "), lines[1:])
    return list(itertools.takewhile(lambda line: not line.startswith("#   "), comments))


def _header_length(lines: list[str]) -> int:
    return next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))


def _split_defaults(lines: list[str]) -> tuple[dict[str, str], list[str]]:
    """The defaults list (group -> "choice   # comment") and the lines after it."""
    defaults: dict[str, str] = {}
    body, name = [], ""
    inside = False
    for line in lines:
        if line.startswith("defaults:"):
            inside = True
        elif inside and defaults and line.lstrip().startswith("#"):  # of the line before
            defaults[name] += f" {line.strip('# ')}"
        elif inside and line.startswith("  - "):
            name, _, rest = line[4:].partition(":")
            name = name.strip().removeprefix("optional ")
            defaults[name] = rest.strip()
        else:
            inside = False
            body.append(line)
    return defaults, body
