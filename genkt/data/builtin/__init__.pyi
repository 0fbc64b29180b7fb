"""What ``from genkt.data.builtin import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .digits import (
    digits as digits,
    digits_on_photos as digits_on_photos,
)
from .glyphs import (
    GlyphBank as GlyphBank,
    GlyphStyle as GlyphStyle,
    draw_bank as draw_bank,
    sample_glyphs as sample_glyphs,
)
from .photos import (
    open_photo as open_photo,
    photo_crops as photo_crops,
)
