"""The tangent space of covariance matrices at their geometric mean.

After Varoquaux et al., "Detection of brain functional-connectivity difference in post-stroke patients using group-level covariance modeling",
MICCAI 2010.
"""

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from graphssl.graphs.covariance import inside

# Far from the mean a direction needs few digits, and single precision is twice as fast. It serves while each step at least halves the gradient, until
# that is this many times the tolerance, or of the order of what single precision can tell (a number a region).
_COARSE_UNTIL = 20.0
_COARSE_DIGITS = 1e-4
_STEPS = (0.1, 1.0)
_CHUNK_ELEMENTS = 2**18


def geometric_mean(
    matrices: Float[Tensor, "n R R"],
    *,
    init: Float[Tensor, "R R"] | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 30,
) -> Float[Tensor, "R R"]:
    """The matrix with the smallest sum of squared affine-invariant distances to the given ones (Karcher or Fréchet mean).

    Gradient descent along geodesics (Fletcher & Joshi, Signal Processing 2007) with Barzilai-Borwein steps (Iannazzo & Porcelli, IMA Journal of
    Numerical Analysis 2018). The frame `P` with `P G Pᵀ = I` is carried along the geodesic, in which parallel transport is the identity, so gradients
    of two iterations can be compared as they are; about half the iterations of a fixed step are needed.

    Args:
        matrices: Symmetric positive definite matrices `[n, R, R]` in double precision, at least one.
        init: Where to start; the arithmetic mean when left out.
        tolerance: Stop when the norm of the mean logarithm, divided by `R²`, falls below it (nilearn's criterion).
        max_iterations: Warn and stop after that many.
    """
    frame = map_eigenvalues(matrices.mean(dim=0) if init is None else init, torch.rsqrt)
    enough = tolerance * frame.numel()
    fine = max(_COARSE_UNTIL * enough, _COARSE_DIGITS * len(frame))
    coarse, step, previous, norm = True, 1.0, None, float("inf")
    for _ in range(max_iterations):
        gradient = _mean_log(matrices, frame, torch.float32 if coarse else torch.float64)
        if coarse and not gradient.isfinite().all():  # not positive definite to seven digits
            coarse, gradient = False, _mean_log(matrices, frame, torch.float64)
        before, norm = norm, float(gradient.norm())
        step = _next_step(step, previous, gradient)
        frame = map_eigenvalues(-step / 2 * gradient, torch.exp) @ frame
        if norm < enough and not coarse:
            break
        coarse, previous = coarse and fine < norm < before / 2, gradient
    else:
        warnings.warn(
            f"The geometric mean of {len(matrices)} matrices did not converge in {max_iterations} iterations: expected a gradient with a norm below "
            f"{enough:.2g}, found {norm:.2g}. Matrices close to singular do this: shrink the covariances (shrinkage='ledoit-wolf').",
            stacklevel=2,
        )
    root = torch.linalg.inv(frame)
    return root @ root.T


def map_eigenvalues(matrices: Float[Tensor, "*n R R"], function: Callable[[Tensor], Tensor]) -> Float[Tensor, "*n R R"]:
    """A function of symmetric matrices: it is applied to the eigenvalues, the eigenvectors stay."""
    values, vectors = torch.linalg.eigh(matrices)
    return (vectors * function(values).unsqueeze(-2)) @ vectors.mT


def log_map(matrices: Float[Tensor, "n R R"], whitening: Float[Tensor, "R R"]) -> Float[Tensor, "n R R"]:
    """Tangent vectors `log(W C W)` of covariances, where `W` is the inverse square root of the reference."""
    logs = [map_eigenvalues(whitening @ (chunk @ whitening), torch.log) for chunk in matrices.split(chunk_length(matrices))]
    return torch.cat(logs) if logs else matrices


def complete(
    matrices: Float[Tensor, "n R R"],
    observed: Bool[Tensor, "n R"],
    reference: Float[Tensor, "R R"],
) -> Float[Tensor, "n R R"]:
    """Fill in covariances of regions that were not observed, as the reference predicts them from those that were.

    With the reference as the covariance of a Gaussian, missing regions are a linear function of the observed ones plus a remainder. The result is the
    expected covariance given the observed block, as in the E-step of Dempster, Laird & Rubin, JRSS B 1977. It is positive definite and adds no
    deviation from the reference beyond the one that was seen.

    Args:
        matrices: Covariances `[n, R, R]`; what they hold outside of the observed block is not read.
        observed: Observed regions `[n, R]`.
        reference: Symmetric positive definite matrix `[R, R]`.
    """
    seen = torch.diag_embed(observed.to(matrices.dtype))
    missing = torch.eye(observed.shape[1], dtype=matrices.dtype, device=matrices.device) - seen
    block = seen @ reference @ seen + missing
    coefficients = torch.linalg.solve(block, seen @ reference @ missing)  # [n, R, R], from observed rows to missing columns
    spread = seen + coefficients.mT
    remainder = missing @ reference @ (missing - coefficients)
    filled = spread @ matrices.masked_fill(~inside(observed), 0.0) @ spread.mT + remainder
    return (filled + filled.mT) / 2


def completed_mean(matrices: Float[Tensor, "n R R"], observed: Bool[Tensor, "n R"], *, n_iterations: int = 8) -> Float[Tensor, "R R"]:
    """The arithmetic mean of covariances with missing regions, by expectation-maximisation from independent regions.

    Args:
        matrices: Covariances `[n, R, R]`; what they hold outside of the observed block is not read.
        observed: Observed regions `[n, R]`; every region in at least one.
        n_iterations: Rounds of completing and averaging.
    """
    variances = torch.diagonal(matrices, dim1=1, dim2=2).masked_fill(~observed, 0.0).sum(dim=0) / observed.sum(dim=0)
    mean = torch.diag(variances)
    for _ in range(n_iterations):
        chunks = zip(matrices.split(chunk_length(matrices)), observed.split(chunk_length(matrices)), strict=True)
        mean = torch.stack([complete(part, seen, mean).sum(dim=0) for part, seen in chunks]).sum(dim=0) / len(matrices)
    return mean


def chunk_length(matrices: Float[Tensor, "n R R"]) -> int:
    """How many matrices to take at a time, so that what is made of them stays small."""
    return max(1, _CHUNK_ELEMENTS // max(1, matrices[0].numel() if len(matrices) else 1))


def _mean_log(matrices: Float[Tensor, "n R R"], frame: Float[Tensor, "R R"], dtype: torch.dtype) -> Float[Tensor, "R R"]:
    frame = frame.to(dtype)
    total = torch.zeros_like(frame)
    for chunk in matrices.split(chunk_length(matrices)):
        values, vectors = torch.linalg.eigh(frame @ (chunk.to(dtype) @ frame.T))
        beside = vectors.transpose(0, 1).flatten(start_dim=1)  # [R, n R]: the sum over matrices is one product
        total += (beside * values.log().flatten()) @ beside.T
    return total.double() / len(matrices)


def _next_step(step: float, previous: Tensor | None, gradient: Tensor) -> float:
    # Barzilai-Borwein: the step that the change of the gradient over the last one suggests. The Hessian's eigenvalues are at least 1.
    if previous is None:
        return step
    moved = step * previous
    curvature = float((moved * (previous - gradient)).sum())
    if curvature <= 0:
        return _STEPS[1]
    return min(max(float(moved.square().sum()) / curvature, _STEPS[0]), _STEPS[1])
