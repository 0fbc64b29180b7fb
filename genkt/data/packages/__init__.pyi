"""What ``from genkt.data.packages import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .fashion_mnist import (
    fashion_mnist as fashion_mnist,
)
from .package import (
    Package as Package,
)
from .scenes import (
    Scene as Scene,
    scene_of as scene_of,
)
from .stamps import (
    StampWorld as StampWorld,
    stamps as stamps,
)
