"""What ``from genkt.synthesis import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .make_images import (
    Made as Made,
    source_mask as source_mask,
)
from .tokens import (
    redecode as redecode,
)
