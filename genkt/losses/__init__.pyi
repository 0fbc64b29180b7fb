"""What ``from genkt.losses import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .contrastive import (
    estimate_log_normalizer as estimate_log_normalizer,
    info_nce as info_nce,
    memory_nce as memory_nce,
    patch_cosine_distance as patch_cosine_distance,
    similarity_distillation as similarity_distillation,
)
from .factors import (
    factor_distance as factor_distance,
)
from .features import (
    feature_regression as feature_regression,
    reverse_feature_regression as reverse_feature_regression,
)
from .kernels import (
    centred_unit_rows as centred_unit_rows,
    kernel_distance as kernel_distance,
    linear_kernel as linear_kernel,
    rbf_kernel as rbf_kernel,
    tensor_product_kernel as tensor_product_kernel,
)
from .logits import (
    cross_entropy as cross_entropy,
    kl_distillation as kl_distillation,
    soft_target_cross_entropy as soft_target_cross_entropy,
    top_k_distillation as top_k_distillation,
)
from .partition import (
    label_probability as label_probability,
    largest_probability as largest_probability,
    merged_rows as merged_rows,
    partitioned_distillation as partitioned_distillation,
    partitioned_top_k_distillation as partitioned_top_k_distillation,
    winners as winners,
)
from .relational import (
    rkd_angle as rkd_angle,
    rkd_distance as rkd_distance,
    unit_vectors as unit_vectors,
)
from .vq import (
    adaptive_weight as adaptive_weight,
    codebook_perplexity as codebook_perplexity,
    commitment_loss as commitment_loss,
    generator_adversarial_loss as generator_adversarial_loss,
    hinge_discriminator_loss as hinge_discriminator_loss,
    perceptual_distance as perceptual_distance,
    psnr as psnr,
)
