"""Classifiers side by side: who is right where another is wrong, and how far they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from genkt.analysis.collect_outputs import Collected, ModelAnswers, Parts
from genkt.config.analysis_settings import AnalyzeConfig
from genkt.config.retrieval_settings import OPEN_CLIP
from genkt.inference.load_classifier import device_of
from genkt.metrics.agreement import mean_kl, top1_agreement
from genkt.metrics.complementary import (
    class_means,
    flips_matrix,
    mean_cosine,
    top_classes,
    transfer_change,
)
from genkt.metrics.flips import flips_of, histogram_entropy
from genkt.metrics.scored_arms import DrawDesign, of_pair
from genkt.report.analyze.analyze_data import AnalyzedModel, Pair, Share, TopClasses, Transfer
from genkt.retrieval.encoder import EncoderSpec
from genkt.types import UserError

Right = NDArray[np.bool_]
Rows = NDArray[np.float64]


def answers_right(classifiers: Sequence[Collected], parts: Parts) -> Right:
    """[K, N] whether each classifier answers each sample correctly."""
    rows = [answers_of(model).predicted == parts.labels for model in classifiers]
    return np.stack(rows) if rows else np.empty((0, len(parts.labels)), dtype=bool)


def answers_of(model: Collected) -> ModelAnswers:
    """The answers of a model that has some."""
    assert model.answers is not None
    return model.answers


def any_right(right: Right, parts: Parts) -> Share | None:
    """Samples that some classifier has right, the best that a choice among them can reach."""
    return Share.of(np.logical_or.reduce(right), parts.groups) if len(right) else None


def pairs_of(
    right: Right, parts: Parts, percents: Sequence[float], embeddings: Rows
) -> tuple[NDArray[np.float64], list[Pair]]:
    """The matrix of positive flips, and every ordered pair in detail."""
    num_classes, design = len(parts.classes), DrawDesign(groups=parts.groups)
    scored = [{(0, 0): each.astype(np.float32)} for each in right]
    sizes = np.bincount(parts.labels, minlength=num_classes).astype(np.int64)
    pairs = []
    for student in range(len(right)):
        for teacher in range(len(right)):
            if student == teacher:
                continue
            change = flips_of(right[student], right[teacher], parts.labels, num_classes)
            counts = change.gained_by_class
            top = [
                _top(top_classes(counts, sizes, percent), percent, embeddings)
                for percent in percents
            ]
            entropy = histogram_entropy(counts)
            difference = of_pair(scored[teacher], scored[student], design)
            pairs.append(Pair(student, teacher, counts.tolist(), entropy, top, difference))
    return flips_matrix(right), pairs


def _top(classes: NDArray[np.int64], percent: float, embeddings: Rows) -> TopClasses:
    return TopClasses(percent, classes.tolist(), similarity_of(embeddings[classes]))


def similarity_of(embeddings: Rows) -> float:
    """Mean pairwise cosine of the classes that have an embedding."""
    return mean_cosine(embeddings[np.isfinite(embeddings).all(axis=1)])


def mean_features(
    config: AnalyzeConfig, parts: Parts, found: Sequence[Collected], best: AnalyzedModel
) -> tuple[str, Rows]:
    """The model for the comparison of classes, and its mean training features [C, D]."""
    by = config.similarity.by
    name = best.name if by is None else config.listed(by)
    model = next(model for model in found if model.name == name)
    train = parts.train.labels
    return config.titles[name], class_means(model.features.train.numpy(), train, len(parts.classes))


def text_embeddings(config: AnalyzeConfig, classes: Sequence[str]) -> tuple[str, Rows] | None:
    """``similarity.by=open_clip:NAME`` and the mean [C, D] of each class's texts, else None.

    Raises:
        UserError: no open_clip, no such model of it, or no such weights.
    """
    from genkt.retrieval.clip import encode_texts, load_clip

    by, settings = config.similarity.by, config.similarity
    if by is None or not by.startswith(OPEN_CLIP):
        return None
    try:
        spec = EncoderSpec(by, settings.pretrained, settings.weights)
        encoder = load_clip(spec, device=device_of(config.device))
    except UserError as error:  # there the settings are called encoder.KEY
        raise UserError(f"similarity.by: {error}".replace("encoder.", "similarity.")) from error
    templates = config.text.templates
    texts = [template.replace("{}", name) for name in classes for template in templates]
    (rows,) = encode_texts([encoder], texts)
    means: Rows = rows.astype(np.float64).reshape(len(classes), len(templates), -1).mean(axis=1)
    return by, means


def agreement(classifiers: Sequence[Collected]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[K, K] KL(column || row) over the data's classes, and [K, K] share of equal answers."""
    answers = [answers_of(model) for model in classifiers]
    kl, top1 = np.zeros((len(answers),) * 2), np.eye(len(answers))
    for row, student in enumerate(answers):
        for column, teacher in enumerate(answers):
            if row != column:
                kl[row, column] = mean_kl(student.logits, teacher.logits)
                top1[row, column] = top1_agreement(student.predicted, teacher.predicted)
    return kl, top1


def transfer_of(
    triple: tuple[str, str, str] | None, titles: Mapping[str, str],
    classifiers: Sequence[Collected], right: Right, parts: Parts,
) -> Transfer | None:  # fmt: skip
    """What the student of a triple learned from its teacher; None if not requested."""
    if triple is None:
        return None
    places = {model.name: place for place, model in enumerate(classifiers)}
    before, after, teacher = (right[places[name]] for name in triple)
    change = transfer_change(before, after, teacher, parts.labels, len(parts.classes))
    names = [titles[name] for name in triple]
    return Transfer(names[0], names[1], names[2], change)
