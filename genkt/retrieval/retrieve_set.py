"""``genkt retrieve``: embed, search, filter, let suspects be reviewed, write the set."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.config.retrieval_settings import RetrievalSettings
from genkt.data.images import ImageSet
from genkt.data.splits import Splits
from genkt.execution.ranks import Processes
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import processes_of
from genkt.io import fingerprint, fingerprint_ids, home_path, write_text
from genkt.report.kit.families import funnel_text
from genkt.retrieval.choose_rows import Chosen, Inputs, RetrievalChoice, query_of
from genkt.retrieval.embed import Embedder, worth_it
from genkt.retrieval.encoders import identity_of
from genkt.retrieval.leaks import decided, suspects_fingerprint
from genkt.retrieval.retrieval_card import card_text
from genkt.retrieval.retrieval_sheet import sheet_text
from genkt.retrieval.review_page import review_page
from genkt.retrieval.review_pictures import review_rows
from genkt.retrieval.write_set import Taken, WriteTask, remove_shards
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import log_to_file
from genkt.transfer_set.composition import TransferSet, read_transfer_set
from genkt.transfer_set.read_set import open_shards, write_header
from genkt.transfer_set.set_files import HEADER, remove_leftovers
from genkt.types import UserError

logger = logging.getLogger("genkt")

REVIEW = "review.html"
_POLL_SECONDS = 0.5
_SPEED_ALONE = ("num_threads", "store")
_WORK = "work"


def run_retrieval(
    settings: RetrievalSettings,
    inputs: Inputs,
    out: str | Path,
    embedder: Embedder,
    *,
    splits: Splits | None = None,
    location: str = "",
    processes: Processes | None = None,
    plain: Mapping[str, Any] | None = None,
    command: str = "genkt.retrieve(...)",
    overwrite: bool = False,
) -> TransferSet:
    """Retrieve a set, continue one that was interrupted, or open a finished one.

    Args:
        settings: what to retrieve, and how to store it.
        inputs: queries, gallery, and images that must not be retrieved.
        out: its folder.
        embedder: the encoders; its executor makes the shards.
        splits: the parts of the data, for the review page.
        location: what the gallery is called.
        processes: those that share the work, all with the same arguments; None: as
            ``processes_of`` finds them.
        plain: what ``config.yaml`` keeps; by default the settings.
        command: how to repeat it, for card and pages.
        overwrite: replace another run in ``out``.

    Returns:
        The set.

    Raises:
        UserError: a folder that holds another run; a gallery that is too small; suspected leaks
            that nobody has decided on; a set of which the filters leave nothing.
    """
    processes = processes or processes_of(embedder.executor)
    if overwrite and processes.by_files:
        raise UserError(
            "overwrite=true: processes of this launch cannot tell when the old run is gone; "
            f"remove {out} before you start them"
        )
    kept = dict(plain) if plain is not None else asdict(settings)
    folder = RunFolder(out, kept, overwrite=overwrite, last=HEADER)
    work = Retrieval(settings, inputs, folder.path, embedder, splits, location, command)
    if not folder.finished:
        work.require_images()  # before the folder belongs to this run
    processes.meet()  # no process still looks at the folder when the first one changes it
    if processes.rank == 0 or processes.by_files:
        folder.claim(command, _fingerprints(inputs, embedder))
    processes.meet()
    if folder.finished:
        found = read_transfer_set(folder.path)
        _check_decisions(found, settings)
        if processes.rank == 0 and not processes.by_files:
            work.tidy()  # a process that was killed may not have done it
        return found
    with folder.one_command(processes):
        processes.meet()
        if not folder.finished:  # by another command
            _make(work, folder, processes)
    if processes.rank == 0:
        folder.end()
    return read_transfer_set(folder.path)


def _make(work: Retrieval, folder: RunFolder, processes: Processes) -> None:
    handler = log_to_file(folder.path / "retrieve.log" if processes.rank == 0 else None)
    try:
        work.make(processes)
        while not folder.finished:
            time.sleep(_POLL_SECONDS)
    finally:
        logger.removeHandler(handler)
        handler.close()


def _fingerprints(inputs: Inputs, embedder: Embedder) -> dict[str, str]:
    """Of what the settings only name."""
    sets = {"queries": inputs.queries, "gallery": inputs.gallery, "data": inputs.reference}
    found = {name: fingerprint_ids(images.ids) for name, images in sets.items()}
    decoding = max(images.decoding for images in sets.values())
    encoders = {
        f"encoder {each.name}": fingerprint(identity_of(each, None, decoding))
        for each in embedder.encoders
    }
    return found | encoders


def _decisions(settings: RetrievalSettings) -> str | None:
    """What was decided, kept with a finished set: a word, or a file's fingerprint."""
    given = settings.decontaminate
    if given.decisions is None:
        return given.assume
    path = home_path(given.decisions)
    if not path.is_file():
        raise UserError(f"decontaminate.decisions: no such file: {path}")
    return fingerprint(path.read_bytes())


def _check_decisions(found: TransferSet, settings: RetrievalSettings) -> None:
    earlier, now = found.header["decided"], _decisions(settings)
    if found.header["num_suspects"] and now not in (None, earlier):
        raise UserError(
            f"out={found.directory}: this set was finished with other decisions about suspected "
            "leaks; give overwrite=true or another out="
        )


@dataclass(frozen=True)
class Retrieval:
    """A set while it is retrieved.

    Args:
        settings, inputs, embedder, splits, location, command: see ``run_retrieval``.
        out: its folder, claimed.
    """

    settings: RetrievalSettings
    inputs: Inputs
    out: Path
    embedder: Embedder
    splits: Splits | None = None
    location: str = ""
    command: str = ""

    @cached_property
    def choice(self) -> RetrievalChoice:
        """The search and its filters."""
        return RetrievalChoice(
            self.settings, self.inputs, self.embedder, self.embedder.executor, self.out / _WORK
        )

    def require_images(self) -> None:
        """Raise UserError if there are no queries, or too few images to choose from."""
        if not len(self.inputs.queries) and self.settings.strategy != "random":
            raise UserError("queries: expected at least one image to look for, found none")
        if not len(self.inputs.gallery):
            raise UserError(f"gallery: expected images, found none in {self.location}")
        self._require_rows()
        if self.settings.decontaminate.decisions is not None:
            _decisions(self.settings)

    def make(self, processes: Processes) -> None:
        """Do this process's part of everything; the first process finishes the set."""
        chosen = self.choice.chosen()
        leaks = self._decided(chosen, processes)
        places, dropped = chosen.kept.without(leaks, self.choice.num_images)
        self._require_enough(places, dropped)
        tasks = self._tasks(chosen, places)
        executor = worth_it(tasks, self.embedder.executor)
        run_tasks(tasks, executor, description="write images", processes=processes)
        processes.meet()
        if processes.rank == 0:
            self._finish(chosen, places, dropped, len(tasks))
            if not processes.by_files:  # another one may still be reading there
                self.tidy()
        processes.meet()

    def tidy(self) -> None:
        """Remove what only an unfinished set needs."""
        shutil.rmtree(self.out / _WORK, ignore_errors=True)

    def _decided(self, chosen: Chosen, processes: Processes) -> list[bool]:
        """Which suspects are leaks; the page to decide on is written first."""
        suspects, ids = chosen.kept.suspects, self.inputs.reference.ids
        page = self.out / REVIEW
        if suspects and processes.rank == 0:
            rows = review_rows(suspects, self.choice, chosen, self.splits)
            thresholds = zip(
                self.embedder.encoders, self.settings.encoder.leak_thresholds, strict=True
            )
            shown = ", ".join(f"{e.name} {t:g}" for e, t in thresholds if t is not None)
            intro = f"Their similarity to an image of the data is above {shown}."
            text = review_page(rows, suspects_fingerprint(suspects, ids), self.command, intro)
            write_text(page, text)
        processes.meet()  # a process that ends early ends the others: the page must be there first
        return decided(suspects, ids, self.settings.decontaminate, page)

    def _require_rows(self) -> None:
        """Before anything is embedded, refuse a gallery that is too small in any case."""
        settings, wanted = self.settings, self.choice.num_images
        rows = len(self.inputs.gallery) * max(1, settings.crops.per_image)
        if rows < wanted and settings.on_shortage == "error":
            raise UserError.of(
                "num_images",
                f"at most {rows}, as many as the gallery has",
                wanted,
                "; ask for fewer, or for on_shortage=all",
            )

    def _require_enough(self, places: NDArray[np.int64], dropped: Mapping[str, int]) -> None:
        wanted, settings = self.choice.num_images, self.settings
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        if not len(places):
            raise UserError(f"retrieval: nothing is left of what was found ({why or 'nothing'})")
        after = settings.n_counts == "after_filters"
        if after and len(places) < wanted and settings.on_shortage == "error":
            raise UserError(
                f"num_images: expected {wanted} after the filters, the gallery gave {len(places)}"
                f"{why and f' ({why})'}; ask for fewer, or for on_shortage=all"
            )

    def _tasks(self, chosen: Chosen, places: NDArray[np.int64]) -> list[WriteTask]:
        settings, size = self.settings, self.settings.shard_size
        images = self.choice.image_places(chosen.ordering.rows[places])
        taken = self._taken(chosen, places)
        return [
            WriteTask(
                str(self.out), shard, self.inputs.gallery.select(images[start : start + size]),
                taken[start : start + size], settings.crops, settings.files, settings.max_side,
                settings.num_threads,
            )
            for shard, start in enumerate(range(0, len(places), size))
        ]  # fmt: skip

    def _taken(self, chosen: Chosen, places: NDArray[np.int64]) -> list[Taken]:
        """What the records say."""
        ordering, per_image = chosen.ordering, self.choice.gallery.rows_per_image
        found = []
        for place in places.tolist():
            detail: dict[str, Any] = {"image": chosen.candidates.image_ids[place]}
            query = query_of(ordering, place, self.choice.query_ids)
            if query is not None:
                detail["score"] = round(float(ordering.scores[place]), 6)
                detail["rank"] = int(ordering.ranks[place])
            crop = int(ordering.rows[place]) % per_image if self.settings.crops.per_image else None
            found.append(Taken(query, crop, detail))
        return found

    def _finish(
        self, chosen: Chosen, places: NDArray[np.int64], dropped: Mapping[str, int], shards: int
    ) -> None:
        remove_leftovers(self.out)
        remove_shards(self.out, shards)
        header = self._header(chosen, places, dropped, shards)
        found = TransferSet.of_rows(open_shards(self.out, header))
        page = sheet_text(header, found, self.inputs.queries, self.command)
        write_text(self.out / "contact_sheet.html", page)
        write_text(self.out / "README.md", card_text(header, self.command, str(self.out)))
        logger.info("%s", funnel_text(header["funnel"]))
        write_header(self.out, header)

    def _header(
        self, chosen: Chosen, places: NDArray[np.int64], dropped: Mapping[str, int], shards: int
    ) -> dict[str, Any]:
        settings = {k: v for k, v in asdict(self.settings).items() if k not in _SPEED_ALONE}
        settings["decontaminate"].pop("decisions")
        scores = chosen.ordering.scores[places]
        gallery, encoders = self.inputs.gallery, self.embedder.encoders
        shares = self.settings.encoder.mean_of
        return {
            "source": "retrieved",
            "num_images": len(places),
            "num_shards": shards,
            "files": settings["files"],
            "classes": [],
            "settings": json.loads(json.dumps(settings)),
            "encoders": [
                {"name": e.name, "fingerprint": e.fingerprint(), "share": round(share, 6)}
                for e, share in zip(encoders, shares, strict=True)
            ],
            "gallery": {
                "location": self.location,
                "num_images": len(gallery),
                "num_unreadable": len(self.choice.gallery.skipped),
                "fingerprint": fingerprint_ids(gallery.ids),
            },
            "queries": {
                "num_queries": len(self.choice.query_ids),
                "fingerprint": fingerprint_ids(self.choice.query_ids),
            },
            "k": int(chosen.ordering.ranks[places].max()),
            "scores": _spread(scores[np.isfinite(scores)]),
            "num_reference": len(self.inputs.reference),
            "num_suspects": len(chosen.kept.suspects),
            "decided": _decisions(self.settings) if chosen.kept.suspects else None,
            "funnel": {
                "asked": self.choice.num_images,
                "found": len(chosen.ordering),
                "kept": len(places),
                "dropped": dict(dropped),
            },
            "genkt": metadata.version("genkt"),
        }


def _spread(scores: NDArray[np.float64]) -> dict[str, float]:
    """Lowest, median and highest score; {} where nothing was compared."""
    if not len(scores):
        return {}
    names = ("lowest", "median", "highest")
    values = np.quantile(scores, (0, 0.5, 1))
    return {name: round(float(value), 4) for name, value in zip(names, values, strict=True)}


def reference_of(splits: Splits) -> ImageSet:
    """Every image of the data that a set must not hold: training, validation and test."""
    from genkt.data.images import concat

    parts = [images for name, images in splits.parts.items() if name != "unlabelled"]
    return concat(*parts).without_labels()
