"""AFT's kernels on a batch of features and the distance between two of them.

Source: Qiu et al., "Transferring Knowledge from Large Foundation Models to Small Downstream
Models", Eq. 8, Algorithm 1 and Section 5.3. Everything computes in float32 or wider, whatever
autocast says. ``EPS`` stands inside the row norm and under the square root, as methods that need
a gradient everywhere must have it:

- row norm sqrt(|x|^2 + EPS): rows that coincide with the batch mean (identical images) become
  zero rows with a finite gradient instead of 0 / 0;
- distance sqrt(m + EPS) - sqrt(EPS): exactly 0 at equality with a finite gradient there. The
  authors keep their floor of sqrt(EPS) = 1e-4; genkt subtracts it.
"""

from __future__ import annotations

import math

from torch import Tensor

from genkt.losses.numerics import (
    Teachers,
    no_autocast,
    require_matrix,
    require_same_rows,
    require_shape,
    side_by_side,
    widen,
)

EPS = 1e-8
MIN_ROWS = 3
"""With two rows both centred rows are opposite: all kernels agree and nothing is learned."""


def centred_unit_rows(features: Teachers) -> Tensor:
    """Subtract the batch mean and divide each row by its norm sqrt(|x|^2 + EPS).

    Args:
        features: [B, D], B >= 3; several teachers: a list, concatenated column-wise.

    Returns:
        [B, D]; the norm of a row is 1 up to EPS / (2 |x|^2), 0 for a row equal to the mean.

    Raises:
        UserError: not a matrix of floats, or B < 3.
    """
    joined = side_by_side(features)
    require_matrix(joined, "features", min_rows=MIN_ROWS)
    with no_autocast(joined):
        joined = widen(joined)
        centred = joined - joined.mean(dim=0, keepdim=True)
        return centred * (centred.square().sum(dim=1, keepdim=True) + EPS).rsqrt()


def linear_kernel(features: Teachers) -> Tensor:
    """K = X X^T of the centred, normalised rows X.

    Invariant to translation and orthogonal transforms of the features, and to one positive
    factor on all of them (up to EPS); not to factors that differ from row to row.

    Args:
        features: [B, D], B >= 3; several teachers: a list, concatenated column-wise.

    Returns:
        [B, B] entries in [-1, 1].

    Raises:
        UserError: not a matrix of floats, or B < 3.
    """
    rows = centred_unit_rows(features)
    with no_autocast(rows):
        return rows @ rows.T


def rbf_kernel(features: Teachers) -> Tensor:
    """K_ij = exp(-|x_i - x_j|^2) of the centred, normalised rows x.

    Args:
        features: [B, D], B >= 3; several teachers: a list, concatenated column-wise.

    Returns:
        [B, B] entries in [exp(-4), 1], exactly 1 on the diagonal.

    Raises:
        UserError: not a matrix of floats, or B < 3.
    """
    inner = linear_kernel(features)
    squared_norms = inner.diagonal()
    # From inner products, never from [B, B, D] differences; the diagonal cancels exactly.
    return (2 * inner - squared_norms[:, None] - squared_norms[None, :]).exp()


def tensor_product_kernel(image_features: Tensor, text_features: Tensor) -> Tensor:
    """The linear kernel of the outer products of two feature sets, without forming them.

    The kernel of z_i = vec(image_i text_i^T) is the elementwise product of the two kernels;
    centring z is double centring that product, normalising its rows is dividing by the square
    root of its diagonal. Costs O(B^2 D) instead of O(B^2 D_image D_text).

    Source: Qiu et al., Section 4.3 (tensor-product features of image and text).

    Args:
        image_features: [B, D_image], B >= 3; weigh teacher features before.
        text_features: [B, D_text].

    Returns:
        [B, B] entries in [-1, 1].

    Raises:
        UserError: not matrices of floats, B < 3, or different numbers of rows.

    Example:
        >>> import torch
        >>> image, text = torch.randn(4, 3), torch.randn(4, 2)
        >>> outer = (image[:, :, None] * text[:, None, :]).flatten(1)
        >>> torch.allclose(tensor_product_kernel(image, text), linear_kernel(outer), atol=1e-4)
        True
    """
    require_matrix(image_features, "image features", min_rows=MIN_ROWS)
    require_matrix(text_features, "text features", min_rows=MIN_ROWS)
    require_same_rows(image_features, text_features, "text features")
    with no_autocast(image_features):
        image, text = widen(image_features), widen(text_features)
        product = (image @ image.T) * (text @ text.T)
        row_means = product.mean(dim=1)
        centred = product - row_means[:, None] - row_means[None, :] + product.mean()
        # A squared norm; rounding may leave it below zero where rows coincide.
        inverse_norms = (centred.diagonal().clamp(min=0) + EPS).rsqrt()
        return centred * (inverse_norms[:, None] * inverse_norms[None, :])


def kernel_distance(student_kernel: Tensor, teacher_kernel: Tensor) -> Tensor:
    """delta = (1/B) |K_student - K_teacher|_F, written so that its gradient exists at 0.

    Computes sqrt(m + EPS) - sqrt(EPS) with m the mean squared difference: 0 at equality, at most
    1e-4 below the paper's delta elsewhere.

    Source: Qiu et al., Algorithm 1, line 6.

    Args:
        student_kernel: [B, B], B >= 3.
        teacher_kernel: [B, B].

    Returns:
        Scalar in [0, 2].

    Raises:
        UserError: not square matrices of the same size, or B < 3.

    Example:
        >>> import torch
        >>> features = torch.randn(4, 3)
        >>> kernel_distance(linear_kernel(features), linear_kernel(features)).item()
        0.0
    """
    require_matrix(student_kernel, "student kernel", min_rows=MIN_ROWS)
    num_rows = student_kernel.shape[0]
    require_shape(student_kernel, (num_rows, num_rows), "student kernel")
    require_matrix(teacher_kernel, "teacher kernel")
    require_shape(teacher_kernel, (num_rows, num_rows), "teacher kernel")
    with no_autocast(student_kernel):
        mean_square = (widen(student_kernel) - widen(teacher_kernel)).square().mean()
        # Equals sqrt(m + EPS) - sqrt(EPS) without its cancellation: exactly 0 at m = 0.
        return mean_square / ((mean_square + EPS).sqrt() + math.sqrt(EPS))
