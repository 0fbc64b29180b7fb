"""Linear and normalization layers without autograd, in the layout that decodes fastest."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_PACK = "_reorder_linear_weight"
"""What torch.compile packs with too; where a build lacks it, the plain kernels serve."""


class Linear:
    """A linear layer with the activation or the residual fused, where oneDNN offers that.

    The layout of the weights is what makes 16 rows fast on a CPU: as ``nn.Linear`` keeps them the
    kernels reorder them at every call. Float32 products are up to 2.5x faster with the transpose
    (oneDNN's packing gains less: 15 us more per call), bfloat16 ones 1.3 to 3x with packed weights.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.bias = bias
        self.packed = weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and _can_pack()
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)
        else:
            self.weight = weight.t().contiguous()

    def __call__(self, rows: Tensor, *, gelu: bool = False) -> Tensor:
        """[n, in] -> [n, out], through GELU where asked."""
        if self.packed:
            name = "gelu" if gelu else "none"
            out: Tensor = torch.ops.mkldnn._linear_pointwise(
                rows, self.weight, self.bias, name, [], "none" if gelu else ""
            )
            return out
        rows = torch.addmm(self.bias, rows, self.weight)
        # Of a transposed view PyTorch's own kernel takes care: oneDNN's costs 5 to 10 us more.
        return F.gelu(rows.t()).t() if gelu else rows

    def add_to(self, residual: Tensor, rows: Tensor) -> Tensor:
        """[n, in] -> residual + [n, out]; the residual may be overwritten."""
        if self.packed:
            out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
                rows, residual, self.weight, self.bias, "add"
            )
            return out
        return residual.add_(self.bias).addmm_(rows, self.weight)


def _can_pack() -> bool:
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, _PACK)):  # type: ignore[no-untyped-call]
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Norm:
    """Layer normalization with its own copy of the weights: [n, D] -> [n, D]."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        self.shape, self.eps = norm.normalized_shape, norm.eps
        self.weight = norm.weight.detach().to(dtype, copy=True)
        self.bias = norm.bias.detach().to(dtype, copy=True)

    def __call__(self, rows: Tensor) -> Tensor:
        return F.layer_norm(rows, self.shape, self.weight, self.bias, self.eps)
