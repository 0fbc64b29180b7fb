"""What ``from genkt.data.packages import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .package import (
    Package as Package,
)
