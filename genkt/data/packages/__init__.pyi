"""What ``from genkt.data.packages import ...`` gives."""

from .package import (
    Package as Package,
)
