"""Every family of timm as genkt's student and teacher: what is taken, and why the rest is not.

    python tools/timm_families.py --write docs/families.md

Of every module of ``timm.models``, and of every class of model in it, the smallest member is built
with random weights and 3 classes and goes through what a run does: a forward pass, a training
step, its feature map, export, and timm's own reload. Each in a process of its own, with a time
limit, so that none can end the others. ``--rows FILE`` keeps what is done and goes on from there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from fnmatch import fnmatch
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.models import get_pretrained_cfg, list_models, model_entrypoint

from genkt.data.transform import CROP_MODES
from genkt.models.backbone import Backbone
from genkt.models.load import ModelSpec, load_model
from genkt.types import UserError

NUM_CLASSES = 3
LARGE, CHEAP = 256, 224
"""Input sizes above the first are brought to the second where the model allows it."""


@dataclass(frozen=True)
class Member:
    """A model of timm, and how large it is."""

    family: str
    model: str
    kind: str
    parameters: int


@dataclass(frozen=True)
class Row:
    """What became of one model; ``refused`` and ``no_map`` are reasons, "" where there is none."""

    family: str
    model: str
    kind: str
    parameters: int
    input: str = ""
    width: int = 0
    classifier: int = 0
    map: str = ""
    no_map: str = ""
    refused: str = ""
    seconds: float = 0.0


def main() -> None:
    """Read the arguments, try the families, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--filter", default="*", help="families (levit, vit*) to try")
    parser.add_argument("--model", help="this model alone")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table")
    parser.add_argument("--rows", type=Path, help="JSON lines: read first, then added to")
    parser.add_argument("--seconds", type=float, default=300, help="the limit of one model")
    options = parser.parse_args()
    done = _read(options.rows)
    rows = []
    for member in _members(options.filter, options.model, options.seconds):
        row = done.get(member.model) or _attempt(member, options.seconds)
        if options.rows and member.model not in done:
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
        rows.append(row)
        print(f"{row.family:24} {row.model:42} {row.seconds:5.1f} s  {_verdict(row)}", flush=True)
    if options.write:
        options.write.write_text(_page(rows, _command(options)), encoding="utf-8")


def _read(path: Path | None) -> dict[str, Row]:
    lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
    return {row.model: row for row in (Row(**json.loads(line)) for line in lines)}


def _members(pattern: str, model: str | None, seconds: float) -> Iterator[Member]:
    """The smallest member of every class of model in every family, family by family."""
    families: dict[str, list[str]] = {}
    for name in [model] if model else list_models():
        family = model_entrypoint(name).__module__.rsplit(".", 1)[1]
        if fnmatch(family, pattern):
            families.setdefault(family, []).append(name)
    for family, names in sorted(families.items()):
        try:
            yield from _apart(_smallest, family, names, seconds=seconds)
        except RuntimeError as error:
            print(f"{family}: its members cannot be counted: {error}", file=sys.stderr)


def _smallest(family: str, names: list[str]) -> list[Member]:
    smallest: dict[str, Member] = {}
    for name in names:
        with torch.device("meta"):
            model = timm.create_model(name, num_classes=NUM_CLASSES)
        kind, count = type(model).__name__, sum(p.numel() for p in model.parameters())
        if kind not in smallest or count < smallest[kind].parameters:
            smallest[kind] = Member(family, name, kind, count)
    return list(smallest.values())


def _attempt(member: Member, seconds: float) -> Row:
    start = time.monotonic()
    try:
        found = _apart(_try, member.model, seconds=seconds)
    except RuntimeError as error:
        found = {"refused": str(error)}
    return Row(**asdict(member), **found, seconds=round(time.monotonic() - start, 1))


def _apart(work: Callable[..., Any], *args: Any, seconds: float) -> Any:
    """What ``work(*args)`` returns, from a process of its own.

    Raises:
        RuntimeError: it failed, crashed, or took longer than ``seconds``.
    """
    context = multiprocessing.get_context("fork")  # torch is imported once
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, work, args))
    process.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            raise RuntimeError(f"took longer than {seconds:g} seconds")
        result, fault = ours.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        raise RuntimeError(f"crashed: {signal.Signals(-code).name if code < 0 else code}") from None
    finally:
        process.kill()
        process.join()
    if fault:
        raise RuntimeError(fault)
    return result


def _send(pipe: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        answer = work(*args), ""
    except Exception as error:  # whatever a family's code raises is its reason
        answer = None, f"{type(error).__name__}: {_line(error)}"
    pipe.send(answer)


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _try(name: str) -> dict[str, Any]:
    try:
        model = _built(name)
    except UserError as error:
        return {"refused": _line(error)}
    size = model.transform.input_size
    found: dict[str, Any] = {"input": f"{size[0]} x {size[1]}", "width": model.width}
    try:
        found["map"] = " x ".join(map(str, model.map_shape))
    except UserError as error:
        found["no_map"] = _line(error)
    torch.manual_seed(0)
    images = torch.randn(2, 3, *size)
    _step(model, images)
    with torch.no_grad():
        output = model.eval()(images)
        theirs = model.model(images)
    _require_equal("logits", output.logits, theirs)
    _require_equal("classify(features)", model.classify(output.features), theirs)
    with tempfile.TemporaryDirectory() as directory, torch.no_grad():
        model.export(directory)
        again = timm.create_model(f"local-dir:{directory}", pretrained=True).eval()
        _require_equal("timm's reload", again(images), theirs)
    found["classifier"] = sum(p.numel() for p in model.classifier_parameters())
    return found


def _built(name: str) -> Backbone:
    """At its own input size, or at ``CHEAP`` where that is large and the model allows it."""
    config = get_pretrained_cfg(name)
    own = config.input_size[1:] if config else (224, 224)
    overlay: dict[str, Any] = {}
    if config and config.crop_mode not in (None, "", *CROP_MODES):
        overlay["crop_mode"] = "center"
    spec = ModelSpec(name, pretrained=False, transform=overlay)
    if max(own) > LARGE:
        small = [CHEAP, CHEAP]
        smaller = replace(spec, transform={**overlay, "input_size": small})
        for args in ({"img_size": small}, {}):
            try:
                return load_model(replace(smaller, args=args), num_classes=NUM_CLASSES)
            except (UserError, TypeError):  # refused, if at all, for what it is at its own size
                continue
    return load_model(spec, num_classes=NUM_CLASSES)


def _step(model: Backbone, images: torch.Tensor) -> None:
    """One training step, which must move every weight of the classifier."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    model.train()
    for parameter in model.classifier_parameters():
        if parameter.ndim > 1:  # a head that starts at zero tells the body nothing
            torch.nn.init.normal_(parameter, std=0.02)
    before = [parameter.clone() for parameter in model.classifier_parameters()]
    output = model(images)
    assert output.logits is not None
    F.cross_entropy(output.logits, torch.tensor([0, 1])).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    after = model.classifier_parameters()
    still = sum(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    if still or not before:
        raise RuntimeError(f"{still} of {len(before)} classifier weights stood still in a step")
    if output.features.requires_grad is False:
        raise RuntimeError("no gradient reaches the backbone")


def _require_equal(what: str, found: Any, expected: torch.Tensor) -> None:
    if not torch.allclose(found, expected, rtol=1e-4, atol=1e-5):
        difference = (found - expected).abs().max().item()
        raise RuntimeError(f"{what}: differs from the model's logits by {difference:.2g}")


def _verdict(row: Row) -> str:
    return f"refused: {row.refused}" if row.refused else "taken"


def _command(options: argparse.Namespace) -> str:
    chosen = "" if options.filter == "*" else f" --filter '{options.filter}'"
    return f"python tools/timm_families.py{chosen} --write docs/families.md"


def _page(rows: list[Row], command: str) -> str:
    taken = [row for row in rows if not row.refused]
    families = {row.family for row in rows}
    whole = families - {row.family for row in rows if row.refused}
    lines = [
        "# timm's families as students and teachers",
        "",
        "Of every module of `timm.models`, and of every class of model in it, the smallest member: "
        f"{len(taken)} of {len(rows)} classes are taken, {len(whole)} of {len(families)} modules "
        "with all of theirs. Random weights, 3 classes, the model's own input size, above "
        f"{LARGE} pixels {CHEAP} where it allows that; the middle of the picture where its own "
        "crop mode is not one of genkt's. Taken means: genkt's logits and timm's agree, a training "
        "step moves every weight of the classifier, and timm loads the exported folder with the "
        "same outputs. Features are the width of the vector that enters the classifier; a model "
        "with several heads has all their vectors side by side, and answers with the mean of its "
        "heads, in training too.",
        "",
        f"timm {timm.__version__}, torch {torch.__version__}, {datetime.now(UTC):%Y-%m-%d}, "
        f"`{command}`",
        "",
        "| module | class | smallest model | million weights | input | features | weights of the "
        "classifier | map | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        size = [row.input, row.width, row.classifier, row.map or "none"]
        facts = [row.family, row.kind, row.model, f"{row.parameters / 1e6:.1f}"]
        facts += [str(fact) for fact in size] if not row.refused else [""] * len(size)
        lines.append("| " + " | ".join([*facts, _cell(_verdict(row))]) + " |")
    lines += ["", "## Why there is no map", ""]
    lines += [f"- {row.kind}: {_cell(row.no_map)}" for row in rows if row.no_map]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
