"""Second-order features: the square root of the second moment of a stage's channels, over positions.

The root follows Li et al. 2017 (MPN-COV, arXiv 1703.08050); its computation follows Li et al. 2018 (iSQRT-COV, arXiv
1712.01034). Positions count by their energy, so that the features describe what the net sees rather than the background.
SCDA (Wei et al. 2017, arXiv 1604.04994) selects positions by activation with a threshold; here they have weights.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ROOT_ITERATIONS = 20  # makes roots right to 1e-4, for eigenvalues above 1e-6 of their sum


def energy_shares(x: Tensor, count: int) -> Tensor:
    """Return the share of each of `count` positions in the energy of an image, (N, count), from a stage's output.

    x: (N, positions, channels), positions in a square. The energy of a position is the sum of its squares. The square is
    resized bilinearly if it has another number of positions. An image without energy has equal shares.
    """
    energy = x.square().sum(2)
    if count != x.shape[1]:
        side, wanted = math.isqrt(x.shape[1]), math.isqrt(count)
        square = energy.unflatten(1, (1, side, side))
        energy = F.interpolate(square, (wanted, wanted), mode="bilinear", align_corners=False).flatten(1)
    energy = energy + torch.finfo(energy.dtype).tiny
    return energy / energy.sum(1, keepdim=True)


def second_order(x: Tensor, shares: Tensor | None = None) -> Tensor:
    """x (N, positions, r) -> (N, r (r + 1) / 2): the upper triangle of the square root of the second moment over positions.

    shares: the weight of each position, (N, positions), with sum 1; None: all alike.

    Entries off the diagonal are multiplied by sqrt(2): inner products then equal those of the whole matrices. The dtype is
    float64 if the device has it: with fewer positions than r, eigenvalues are 0, and the root of a rounding error is large.
    """
    r, dtype = x.shape[2], x.dtype
    if x.device.type != "mps":
        x = x.double()
    rows, columns = torch.triu_indices(r, r, device=x.device)
    off = torch.where(rows == columns, 1.0, 2**0.5)
    weighted = x / x.shape[1] if shares is None else x * shares.to(x.dtype)[:, :, None]
    return matrix_root(x.transpose(1, 2) @ weighted)[:, rows, columns].to(dtype) * off


def matrix_root(matrices: Tensor) -> Tensor:
    """Return the square roots of symmetric, positive semi-definite matrices (N, r, r), by matrix products alone.

    The coupled Newton-Schulz iteration (Higham 2008, Functions of Matrices, eq. 6.35): Y_0 = A / trace A, Z_0 = I;
    T = (3 I - Z Y) / 2; Y <- Y T, Z <- T Z; Y converges to the root of Y_0. It takes as
    long as an eigendecomposition but, unlike one, can be exported to ONNX. The root of a zero matrix is zero.
    """
    identity = torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    trace = matrices.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    y = matrices / trace.clamp(min=torch.finfo(matrices.dtype).tiny)
    z = identity.expand_as(y)
    for _ in range(ROOT_ITERATIONS):
        t = (3 * identity - z @ y) / 2
        y, z = y @ t, t @ z
    return y * trace.sqrt()
