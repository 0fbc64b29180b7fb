"""What ``from genkt.generative.decoding import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .decoder import (
    Decoder as Decoder,
    Decoding as Decoding,
)
from .sampling import (
    Sampling as Sampling,
    complete_sequences as complete_sequences,
    decide as decide,
    gumbel_noise as gumbel_noise,
    uniforms_for as uniforms_for,
)
