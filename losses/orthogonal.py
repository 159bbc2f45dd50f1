"""Orthogonal regularisation of the linear layers, as UDML-SS has it behind --orth_reg."""

from torch import Tensor, nn


def orthogonal_penalty(model: nn.Module) -> Tensor | float:
    """Sum over the linear layers of the mean squared off-diagonal entry of W W^T, W of shape (out, in); a scalar.

    It is smallest when the rows of W, the directions that the layer reads, are orthogonal to each other; 0.0 without layers.
    """
    total: Tensor | float = 0.0
    for module in model.modules():
        if isinstance(module, nn.Linear):
            gram = module.weight @ module.weight.T
            total = total + (gram - gram.diag().diag()).square().mean()
    return total
