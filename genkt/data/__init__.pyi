"""What ``from genkt.data import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .crops import (
    Crop as Crop,
    CropSpec as CropSpec,
    make_crop as make_crop,
)
from .images import (
    ImageSet as ImageSet,
    Skipped as Skipped,
    concat as concat,
    content_hash as content_hash,
    from_arrays as from_arrays,
)
from .jitter import (
    JitterSpec as JitterSpec,
)
from .splits import (
    Splits as Splits,
    carve_missing as carve_missing,
    draw_labels as draw_labels,
    holdout as holdout,
)
from .transform import (
    ImageTransform as ImageTransform,
)
from .views import (
    ViewDataset as ViewDataset,
    ViewSpec as ViewSpec,
    render_view as render_view,
)
