"""What ``from genkt.metrics import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .agreement import (
    linear_cka as linear_cka,
    mean_kl as mean_kl,
    top1_agreement as top1_agreement,
)
from .calibration import (
    Reliability as Reliability,
    reliability as reliability,
)
from .classification import (
    ClassMetrics as ClassMetrics,
    ClassificationMetrics as ClassificationMetrics,
    Majority as Majority,
    class_metrics as class_metrics,
    classification_metrics as classification_metrics,
    majority as majority,
)
from .complementary import (
    TransferChange as TransferChange,
    class_means as class_means,
    flips_matrix as flips_matrix,
    mean_cosine as mean_cosine,
    top_classes as top_classes,
    transfer_change as transfer_change,
)
from .flips import (
    Flips as Flips,
    confusion as confusion,
    flips as flips,
    flips_of as flips_of,
    histogram_entropy as histogram_entropy,
)
from .frechet import (
    FeatureMoments as FeatureMoments,
    equal_sizes as equal_sizes,
    frechet_distance as frechet_distance,
)
from .logme import (
    LogME as LogME,
    logme as logme,
    logme_released as logme_released,
    rank_by_logme as rank_by_logme,
)
from .intervals import (
    Design as Design,
    ScoreInterval as ScoreInterval,
    VarianceParts as VarianceParts,
    mean_interval as mean_interval,
    paired_interval as paired_interval,
    ratio_interval as ratio_interval,
    unbounded_interval as unbounded_interval,
)
from .metric_values import metric_values as metric_values
from .planning import (
    Needed as Needed,
    needed as needed,
)
from .jackknife import (
    balanced_accuracy as balanced_accuracy,
    blocked_pseudo_values as blocked_pseudo_values,
    class_counts as class_counts,
    macro_f1 as macro_f1,
    mean_iou as mean_iou,
    pseudo_values as pseudo_values,
)
from .scored_arms import (
    DrawDesign as DrawDesign,
    of_arm as of_arm,
    of_loss as of_loss,
    of_pair as of_pair,
    of_ratio as of_ratio,
)
from .verdicts import (
    Verdict as Verdict,
    holm as holm,
    non_inferior as non_inferior,
    span as span,
    spelled as spelled,
    verdict as verdict,
)
