"""What ``from genkt.methods import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .aft import (
    AFT as AFT,
    AFTOptions as AFTOptions,
    BilevelAFT as BilevelAFT,
    NoKernelAFT as NoKernelAFT,
)
from .b_tuning import (
    BTuning as BTuning,
    BTuningOptions as BTuningOptions,
)
from .base import (
    BetaOptions as BetaOptions,
    MethodOptions as MethodOptions,
    Objective as Objective,
    WeightRule as WeightRule,
)
from .build import (
    METHODS as METHODS,
    Method as Method,
    build_objective as build_objective,
    parse_options as parse_options,
)
from .contrastive_distillation import (
    CD as CD,
    CDOptions as CDOptions,
    CRD as CRD,
    CRDOptions as CRDOptions,
)
from .factor_transfer import (
    FactorTransfer as FactorTransfer,
    FactorTransferOptions as FactorTransferOptions,
)
from .kd import (
    FeatureKD as FeatureKD,
    FeatureKDOptions as FeatureKDOptions,
    L2Feature as L2Feature,
    L2FeatureOptions as L2FeatureOptions,
    LogitKD as LogitKD,
    LogitKDOptions as LogitKDOptions,
)
from .kl_dp import (
    KLDP as KLDP,
    KLDPOptions as KLDPOptions,
    TopKKLDP as TopKKLDP,
)
from .mcl import (
    MCLOptions as MCLOptions,
)
from .rkd import (
    RKD as RKD,
    RKDOptions as RKDOptions,
)
from .self_supervised import (
    SimCLR as SimCLR,
    SimCLROptions as SimCLROptions,
)
from .shapes import (
    Shapes as Shapes,
    TeacherShape as TeacherShape,
    TrainingRows as TrainingRows,
)
from .soft_labels import (
    SoftTarget as SoftTarget,
    SoftTargetOptions as SoftTargetOptions,
    TopKKD as TopKKD,
    TopKOptions as TopKOptions,
)
from .source_classes import (
    SourceClasses as SourceClasses,
    SourceClassesOptions as SourceClassesOptions,
)
from .supervised import (
    Supervised as Supervised,
    SupervisedOptions as SupervisedOptions,
)
from .task_agnostic import (
    BothContrastive as BothContrastive,
    ContrastiveOptions as ContrastiveOptions,
    CosinePatch as CosinePatch,
    CosinePatchOptions as CosinePatchOptions,
    StudentContrastive as StudentContrastive,
)
