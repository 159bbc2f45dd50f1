"""Orthogonal regularisation of the linear layers, which UDML-SS adds with --orth_reg."""

from torch import Tensor, nn


def orthogonal_penalty(model: nn.Module) -> Tensor | float:
    """Sum, over the linear layers, the mean square of W W^T with its diagonal set to 0; W: (out, in). Returns a scalar.

    It is smallest if the rows of W, the directions that the layer reads, are orthogonal to each other; 0.0 without layers.
    """
    total: Tensor | float = 0.0
    for module in model.modules():
        if isinstance(module, nn.Linear):
            gram = module.weight @ module.weight.T
            total = total + (gram - gram.diag().diag()).square().mean()
    return total
