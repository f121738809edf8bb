"""Linear layers whose weights are laid out once for oneDNN: the same products on a CPU, sooner."""

from __future__ import annotations

import torch
from torch import nn


class PackedLinear(nn.Module):
    """An ``nn.Linear`` for inference on a CPU; it keeps the packed weights only.

    Raises:
        RuntimeError: oneDNN has no such product for this data type on this machine.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self._bias = None if linear.bias is None else linear.bias.detach()
        self.training = linear.training
        self.forward(linear.weight.new_zeros(1, linear.in_features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")


@torch.inference_mode()
def pack_linears(model: nn.Module) -> None:
    """Replace every ``nn.Linear`` of a model whose weights stay as they are, where oneDNN can.

    Weights are let go of layer by layer, so that memory grows by the largest layer at most (and by
    the output layer, if it shares its weights with the embedding).
    """
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.weight.device.type == "cpu":
                try:
                    setattr(parent, name, PackedLinear(child))
                except RuntimeError:
                    return
