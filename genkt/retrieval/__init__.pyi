"""What ``from genkt.retrieval import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .clip import (
    ClipEncoder as ClipEncoder,
    encode_texts as encode_texts,
    load_clip as load_clip,
)
from .encoder import (
    Encoder as Encoder,
    EncoderSpec as EncoderSpec,
)
from .encoders import (
    BackboneEncoder as BackboneEncoder,
    PixelsEncoder as PixelsEncoder,
    load_encoder as load_encoder,
)
