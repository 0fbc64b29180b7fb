"""Writing a composed transfer set to disk: shard by shard, continued after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from genkt.disk import make_folder
from genkt.io import contents, fingerprint, held, read_json, reading, write_json
from genkt.readers.scan import map_in_threads
from genkt.transfer_set.read_set import read_rows, write_header
from genkt.transfer_set.set_files import (
    HEADER,
    ImageFiles,
    Record,
    ShardWriter,
    is_leftover,
    remove_leftovers,
    shard_facts,
)
from genkt.transfer_set.set_rows import SetRows
from genkt.types import UserError

_CLAIM = "run.json"
_LOCK = ".lock"


def save_set(
    found: SetRows, root: Path, files: ImageFiles, shard_size: int, header: Mapping[str, Any],
    progress: bool | None = None,
) -> SetRows:  # fmt: skip
    """Write a set, continue one that was interrupted, or open a finished one; see ``save``."""
    if shard_size < 1:
        raise UserError.of("shard_size", "at least 1 image", shard_size)
    if not len(found):
        raise UserError(f"{root}: expected at least one image to save, got none")
    if found.stored is not None and root.resolve() == found.stored.directory.resolve():
        raise UserError(f"{root}: the set is stored there; save it to another folder")
    full = _header(found, files, shard_size, header)
    claim = {
        "config": {"name": "saved", "files": full["files"], "shard_size": shard_size},
        "inputs": {"images": _fingerprint(found, full)},
        "command": "TransferSet.save(...)",
    }
    _refuse_others(root, claim)
    make_folder(root)
    with held(root / _LOCK, f"another process is writing {root}; waiting for it"):
        _refuse_others(root, claim)
        if (root / HEADER).is_file():
            return read_rows(root)
        write_json(root / _CLAIM, claim)
        remove_leftovers(root)
        for shard in range(full["num_shards"]):
            if shard_facts(root, shard) is None:
                rows = range(shard * shard_size, min((shard + 1) * shard_size, len(found)))
                _write_shard(found, root, shard, rows, files, progress)
        return write_header(root, full)


def _header(
    found: SetRows, files: ImageFiles, shard_size: int, more: Mapping[str, Any]
) -> dict[str, Any]:
    sources = list(found.counts())
    own = {
        "source": sources[0] if len(sources) == 1 else "mixed",
        "num_shards": -(-len(found) // shard_size),
        "files": asdict(files),
        "classes": list(found.images.classes),
        "parts": [asdict(part) for part in found.parts],
        "genkt": metadata.version("genkt"),
    }
    return {**own, **json.loads(json.dumps(more)), **own}


def _fingerprint(found: SetRows, header: Mapping[str, Any]) -> str:
    """Digest of all that is written: the provenance of every image, and the header."""
    digest = hashlib.blake2b(digest_size=16)
    for record in found.records():
        digest.update(record.line().encode())
    digest.update(found.part_of.tobytes())
    about = {key: value for key, value in header.items() if key != "genkt"}
    return fingerprint(digest.digest(), about)


def _refuse_others(root: Path, claim: Mapping[str, Any]) -> None:
    """Accept only an empty folder, or one in which a save of the same set was begun.

    Raises:
        UserError: anything else.
    """
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: expected a folder, got a file")
    there = contents(root)  # read once: another process may be at work
    if _CLAIM not in there:
        if any(name != _LOCK and not is_leftover(root / name) for name in there):
            raise UserError(f"{root}: the folder is not empty and holds no transfer set of genkt")
        return
    with reading(root / _CLAIM, "the settings of a set"):
        earlier = dict(read_json(root / _CLAIM))
    if any(earlier.get(key) != claim[key] for key in ("config", "inputs")):
        raise UserError(f"{root}: holds another run or transfer set; give another folder")


def _write_shard(
    found: SetRows, root: Path, shard: int, rows: range, files: ImageFiles,
    progress: bool | None,
) -> None:  # fmt: skip
    def encoded(row: int) -> bytes:
        return files.encode(np.asarray(found.images.load(row)))

    data = map_in_threads(encoded, rows, description=f"saving {root.name}", progress=progress)
    with ShardWriter(root, shard, files, found.images.classes) as writer:
        for number, (row, record, file) in enumerate(
            zip(rows, found.read(rows), data, strict=True)
        ):
            writer.add(
                file, number, label=record.label, source=record.source, parent=record.parent,
                detail=_detail(found, row, record),
            )  # fmt: skip
        writer.finish({})


def _detail(found: SetRows, row: int, record: Record) -> dict[str, Any]:
    """The detail of an image, with its first id and its part of this mix."""
    known = {key: value for key, value in (record.detail or {}).items() if key != "part"}
    part = {"part": found.parts[found.part_of[row]].name} if found.parts else {}
    return {"original": record.id, **known, **part}
