"""What ``from genkt.models import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .backbone import (
    Backbone as Backbone,
    fingerprint_model as fingerprint_model,
    transform_of as transform_of,
)
from .feature_maps import (
    spatial_map as spatial_map,
)
from .foreign import (
    as_backbone as as_backbone,
)
from .load import (
    ModelSpec as ModelSpec,
    load_model as load_model,
)
from .tensor_files import (
    read_tensors as read_tensors,
)
from .weights import (
    load_weights as load_weights,
)
