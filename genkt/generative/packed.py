"""Linear and normalization layers without autograd, in the layout that decodes fastest."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PACKED = 2**18
"""Float32 weights from this many numbers on are packed; below, the plain kernels are faster."""
_PACK = "_reorder_linear_weight"
"""What torch.compile packs with too; where a build lacks it, the plain kernels serve."""


class Linear:
    """A linear layer with the activation or the residual fused, where oneDNN offers that.

    Packed weights are what makes 16 rows fast on a CPU: the plain kernels reorder the weights
    at every call (2x slower in float32, 3x in bfloat16).
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight, self.bias = weight, bias
        gains = weight.dtype == torch.bfloat16 or weight.numel() >= PACKED
        self.packed = gains and weight.device.type == "cpu" and _can_pack(weight.dtype)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def __call__(self, rows: Tensor, *, gelu: bool = False) -> Tensor:
        """[n, in] -> [n, out], through GELU where asked."""
        if self.packed:
            name = "gelu" if gelu else "none"
            out: Tensor = torch.ops.mkldnn._linear_pointwise(
                rows, self.weight, self.bias, name, [], "none" if gelu else ""
            )
            return out
        rows = F.linear(rows, self.weight, self.bias)
        return F.gelu(rows) if gelu else rows

    def add_to(self, residual: Tensor, rows: Tensor) -> Tensor:
        """[n, in] -> residual + [n, out]."""
        if self.packed:
            out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
                rows, residual, self.weight, self.bias, "add"
            )
            return out
        return residual + F.linear(rows, self.weight, self.bias)


def _can_pack(dtype: torch.dtype) -> bool:
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, _PACK)):  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Norm:
    """Layer normalization with its own copy of the weights: [n, D] -> [n, D]."""

    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        self.shape, self.eps = norm.normalized_shape, norm.eps
        self.weight = norm.weight.detach().to(dtype, copy=True)
        self.bias = norm.bias.detach().to(dtype, copy=True)

    def __call__(self, rows: Tensor) -> Tensor:
        return F.layer_norm(rows, self.shape, self.weight, self.bias, self.eps)
