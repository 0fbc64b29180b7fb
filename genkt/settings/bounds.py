"""Numbers of settings with their bounds: generous, but no more than a machine could ever mean."""

from __future__ import annotations

from typing import Annotated

from genkt.types import Range

Count = Annotated[int, Range(1, 10**9)]
"""Of images, steps, classes: whatever a run can go through one by one."""

CountOrNone = Annotated[int, Range(0, 10**9)]
"""The same, or 0: none of it, or never."""

Repeats = Annotated[int, Range(1, 10_000)]
"""How often something as long as a training is done."""

BatchSize = Annotated[int, Range(1, 2**20)]
"""Rows that are in memory at once."""

NumProcesses = Annotated[int, Range(1, 1024)]
"""Processes or threads of one machine."""

Depth = Annotated[int, Range(1, 1000)]
"""Layers or heads of a network."""

Width = Annotated[int, Range(1, 2**17)]
"""Numbers of a feature vector, channels of a layer."""

Pixels = Annotated[int, Range(8, 2**14)]
"""The side of a picture."""

InputSize = Annotated[int, Range(1, 2**14)] | list[Annotated[int, Range(1, 2**14)]]
"""Pixels of a network's input: of both sides, or of height and width."""

Seed = Annotated[int, Range(-(2**63), 2**63 - 1)]
"""What torch takes as one."""

Share = Annotated[float, Range(0, 1)]
ShareAboveZero = Annotated[float, Range(0, 1, above=True)]
ShareBelowOne = Annotated[float, Range(0, 1, below=True)]
Rate = Annotated[float, Range(0, 1000, above=True)]
"""A learning rate: at 0 nothing is learnt."""

NotNegative = Annotated[float, Range(0, 10**9)]
"""The weight of a term of a loss, or of one thing among several."""

Positive = Annotated[float, Range(0, 10**9, above=True)]
Passes = Annotated[float, Range(0, 10**6)]
"""Epochs."""

Seconds = Annotated[float, Range(0, 10**9)]
Factor = Annotated[float, Range(-1000, 1000)]
"""Of geometry: scales, ratios, shifts; the views themselves say what can be drawn."""
