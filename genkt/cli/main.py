"""``genkt COMMAND key=value ...``: finds the command; nothing heavy is imported for help."""

from __future__ import annotations

import contextlib
import errno
import importlib
import logging
import os
import sys
from collections.abc import Iterator

from genkt.cli import streams
from genkt.cli.terminal import printing
from genkt.disk import explained
from genkt.execution.ranks import require_numbers
from genkt.io import did_you_mean, shown
from genkt.stopping import Stopped, stop, stop_asked, until_stopped
from genkt.types import UserError

COMMANDS = {
    "transfer": "train a small student from a teacher, and a plain baseline to compare it with",
    "synthesize": "a transfer set made by a generative model from your images",
    "retrieve": "a transfer set of gallery images that resemble your labelled ones",
    "inspect": "what a transfer set holds, with contact sheet and card",
    "predict": "labels and probabilities of a finished run's student on images",
    "compare": "several transfers on the same label draws: one table, paired differences",
    "evaluate": "accuracy of any model on any labelled set",
    "analyze": "what each of several models knows that the others do not; features, agreement",
    "export": "a finished run's student as ONNX, checked against torch",
    "cache": "compute a teacher's outputs on a set once, ahead of time",
    "prime": "train a generator (VQGAN and latent transformer) on upstream pictures",
    "convert": "an official VQGAN or latent transformer checkpoint as a generator of genkt",
}


_HELP = ("-h", "--help")
_LONGEST = 3000
"""Characters of one fault; more than this is no message."""
_NOT_OURS = (  # what the disk or its owner refuses is no bug of genkt
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ELOOP,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EIO,
    errno.EEXIST,  # a file where a folder is to be made
    errno.EMFILE,
)


def main(words: list[str] | None = None) -> int:
    """Run one command; returns the exit code (2: the user's mistake, one line per fault)."""
    if words is None:
        streams.prefer_utf8()
        streams.open_streams()
        words = sys.argv[1:]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle cores stall short parallel regions
    fault = None
    try:
        with printing():
            code = _dispatch(words)
    except BrokenPipeError:  # the reader (head, less) has seen enough
        code = 0
    except OSError as error:  # from printing a page; commands report their own errors
        if error.errno not in _NOT_OURS or error.filename or os.environ.get("GENKT_DEBUG"):
            raise
        code, fault = 2, error.strerror
    if fault := fault or streams.flush():
        streams.drop_output()
        print(f"genkt: standard output cannot be written: {fault}", file=sys.stderr)
        return code or 2
    return code


def _dispatch(words: list[str]) -> int:
    if words and words[0] == "help":
        words = [*words[1:2], "--help"]
    if not words or words[0] in _HELP:
        print(_overview())
        return 0
    if words[0] in ("-V", "--version"):
        from genkt import __version__

        print(__version__)
        return 0
    command, rest = words[0], words[1:]
    if command not in COMMANDS:
        hint = did_you_mean(command, COMMANDS) or f" Commands: {', '.join(COMMANDS)}."
        print(f'genkt: "{shown(command)}": not a command.{hint}', file=sys.stderr)
        return 2
    if rest[:1] == ["help"] or any(word in _HELP for word in rest):
        from genkt.cli.help import command_page

        print(command_page(command))
        return 0
    return _run(command, rest)


def _run(command: str, words: list[str]) -> int:
    debug = bool(os.environ.get("GENKT_DEBUG"))
    if streams.folder_is_gone():
        fault = "the current folder has been deleted; cd to another"
        print(f"genkt {command}: {fault}", file=sys.stderr)
        return 2
    try:
        with until_stopped(), _stopped_first(), _dead_loaders_told_once():
            require_numbers()
            _tell_repeated(words)
            importlib.import_module(f"genkt.cli.{command}").run(words)
    except UserError as error:
        if debug:
            raise
        for line in str(error).splitlines():
            print(f"genkt {command}: {shown(line, _LONGEST)}", file=sys.stderr)
        return 2
    except OSError as error:
        if debug or error.errno not in _NOT_OURS:
            raise
        print(f"genkt {command}: {explained(error)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if debug or not _of_dead_loader(error):
            raise
        print(
            f"genkt {command}: a process that loads images was killed (too little memory?); the "
            "same command continues, with train.num_workers=0 without such processes",
            file=sys.stderr,
        )
        return 1
    except Stopped as stopped:
        print(f"\ngenkt {command}: {stopped}; the same command continues", file=sys.stderr)
        return stopped.exit_code
    except KeyboardInterrupt:
        print(f"\ngenkt {command}: interrupted; the same command continues", file=sys.stderr)
        return 130
    return 0


def _tell_repeated(words: list[str]) -> None:
    from genkt.settings.words import repeated

    if os.environ.get("RANK", "0") == "0":  # one process of a torchrun
        for line in repeated(words):
            logging.getLogger("genkt").warning(line)


@contextlib.contextmanager
def _stopped_first() -> Iterator[None]:
    """A signal counts, whatever a library makes of it that was in the middle of something."""
    try:
        yield
    except Exception:
        if not stop_asked():
            raise
        raise stop("") from None


@contextlib.contextmanager
def _dead_loaders_told_once() -> Iterator[None]:
    """Torch raises that a loader process died wherever this one is, even in a ``__del__``.

    There Python prints the traceback and goes on; the next batch raises the same.
    """

    def tell(args: sys.UnraisableHookArgs) -> None:
        if not _of_dead_loader(args.exc_value):
            before(args)

    before, sys.unraisablehook = sys.unraisablehook, tell
    try:
        yield
    finally:
        sys.unraisablehook = before


def _of_dead_loader(error: BaseException | None) -> bool:
    """Whether torch raised it because a loader process had died, which it does anywhere."""
    place = error.__traceback__ if isinstance(error, RuntimeError) else None
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    module = place.tb_frame.f_globals.get("__name__", "") if place is not None else ""
    return str(module).startswith("torch.utils.data.")


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "genkt: small models from large vision teachers, few labels and transfer sets",
            "",
            "usage: genkt COMMAND [key=value ...]",
            "",
            *lines,
            "",
            "genkt COMMAND --help lists every setting of a command.",
            "Start with: genkt transfer      (built-in digits, no download, about three minutes)",
        ]
    )
