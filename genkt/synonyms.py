"""Other names of settings: what other tools call those that genkt has."""

from __future__ import annotations

_SAME = [
    set(line.split())
    for line in (
        "lr learningrate learnrate baselr",
        "weightdecay l2 l2penalty",
        "batchsize batch minibatch minibatchsize",
        "epochs epoch nepochs numepochs maxepochs",
        "steps step nsteps numsteps maxsteps iters iterations numiters numiterations maxiters",
        "warmup warmupratio warmupsteps warmupepochs",
        "clipgrad clip gradclip gradientclip gradientclipping gradientclipval maxgradnorm",
        "accumulate gradaccum gradaccumsteps gradientaccumulation gradientaccumulationsteps "
        "accumulategradbatches",
        "ema emadecay modelema modelemadecay",
        "precision amp dtype mixedprecision fp16 bf16",
        "optimizer optimiser optim opt",
        "numworkers workers nworkers",
        "seed randomseed randomstate manualseed",
        "device gpu cuda accelerator",
        "out output outdir outputdir savedir",
        "temperature temp tau",
        "compile torchcompile",
        "labelsperclass shots nshots numshots",
        "draws repeats trials",
        "seedsperdraw numseeds seeds",
        "root datadir dataroot datapath path dir",
        "model arch architecture",
        "evalevery evalfreq evalinterval valevery valinterval",
        "logevery logfreq loginterval",
    )
]
"""Names of one setting, spelled without "_"."""


def means_same(word: str, other: str) -> bool:
    """Whether two names of settings mean the same: other spelling, usual synonym, or initials.

    >>> [means_same(word, "weight_decay") for word in ("weightDecay", "wd", "l2", "warmup")]
    [True, True, True, False]
    """
    one, two = _joined(word), _joined(other)
    if one == two or one == _initials(other) or two == _initials(word):
        return True
    return any(one in names and two in names for names in _SAME)


def _joined(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _initials(word: str) -> str | None:
    """Of a name of several words, as ``wd`` of ``weight_decay``."""
    parts = [part for part in word.lower().replace("-", "_").split("_") if part]
    return "".join(part[0] for part in parts) if len(parts) > 1 else None
