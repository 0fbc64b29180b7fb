"""What ``from genkt.training import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .averages import (
    AveragedWeights as AveragedWeights,
    MomentumWeights as MomentumWeights,
    SlowWeights as SlowWeights,
)
from .batches import (
    BatchPlan as BatchPlan,
    Batches as Batches,
)
from .distiller import (
    Distiller as Distiller,
)
from .loop import (
    train as train,
)
from .predictions import (
    outputs as outputs,
    predict as predict,
)
from .soup import (
    average_weights as average_weights,
    recalibrate_batch_norm as recalibrate_batch_norm,
)
from .stage import (
    Stage as Stage,
)
from .teacher import (
    cache_outputs as cache_outputs,
)
from .train_settings import (
    TrainSettings as TrainSettings,
)
