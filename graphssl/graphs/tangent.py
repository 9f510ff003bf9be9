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

# The Hessian is averaged over every matrix up to this number, over one in a few beyond, in a sample of at least as many.
_SAMPLE = 64
_SPARSEST = 6
# The Newton equation is solved to this share, about what the sample leaves open, in so many steps at most.
_UNSOLVED = 0.02
_CONJUGATE_STEPS = 50
# A forecast of the next gradient is believed with this factor to spare.
_CAUTION = 2.0
# Single precision is nearly twice as fast. It serves a matrix whose eigenvalues are no further apart than this, and a mean of logarithms
# whose norm is not below this number a region.
_SINGLE_CONDITION = 1e4
_SINGLE_DIGITS = 1e-5
_CHUNK_ELEMENTS = 2**18


def geometric_mean(
    matrices: Float[Tensor, "n R R"],
    *,
    init: Float[Tensor, "R R"] | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 30,
) -> Float[Tensor, "R R"]:
    """The matrix with the smallest sum of squared affine-invariant distances to the given ones (Karcher or Fréchet mean).

    Newton's method along geodesics (Ferreira et al., IEEE Journal of Selected Topics in Signal Processing 2013) with the Hessian of an evenly spaced
    sample of the matrices (Roosta-Khorasani & Mahoney, Mathematical Programming 2019), which costs little beside the gradient, and is close enough to
    that of all to make the gradient about thirty times smaller a step. Where there are many matrices it starts from the sample's mean. The frame `P`
    with `P G Pᵀ = I` is carried along; the gradient there is the mean logarithm of `P C Pᵀ`.

    Args:
        matrices: Symmetric positive definite matrices `[n, R, R]` in double precision, at least one.
        init: Where to start; one Newton step from the arithmetic mean of the sample when left out.
        tolerance: Stop when the norm of the mean logarithm, divided by `R²`, falls below it (nilearn's criterion), or is expected to after the step
            that is taken, judging by how much the one before it helped.
        max_iterations: Warn and stop after that many.
    """
    every = max(1, min(len(matrices) // _SAMPLE, _SPARSEST))
    enough, floor = tolerance * matrices[0].numel(), _SINGLE_DIGITS * matrices.shape[1]
    frame = map_eigenvalues(matrices[::every].mean(dim=0) if init is None else init, torch.rsqrt)
    if init is None and every > 1:
        frame = _newton_step(frame, *_mean_log(matrices[::every], frame, torch.float32))
    norm, length, single = float("inf"), 1.0, True
    for _ in range(max_iterations):
        gradient, logs, vectors = _mean_log(matrices, frame, torch.float32 if single else torch.float64, every)
        before, norm = norm, float(gradient.norm())
        length = 1.0 if norm < before else length / 2
        frame = _newton_step(frame, length * gradient, logs, vectors)
        expected = norm * (norm / before if norm < before < float("inf") else 1.0)
        if min(norm, _CAUTION * expected) < enough and (enough > floor or not single):
            break
        single = single and expected > floor and norm < before / 2
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


def log_map(matrices: Float[Tensor, "n R R"], whitening: Float[Tensor, "R R"], *, precision: torch.dtype = torch.float64) -> Float[Tensor, "n R R"]:
    """Tangent vectors `log(W C W)` of covariances, where `W` is the inverse square root of the reference, in the precision asked for.

    In single precision, matrices whose eigenvalues are far apart are computed in double precision all the same.
    """
    result = torch.empty(matrices.shape, dtype=precision, device=matrices.device)
    for chunk, found in zip(matrices.split(chunk_length(matrices)), result.split(chunk_length(matrices)), strict=True):
        values, vectors = _spectra(chunk, whitening, precision)
        half = (vectors * values.log().div_(2).unsqueeze(-2)) @ vectors.mT
        torch.add(half, half.mT, out=found)  # the two triangles are equal to the last bit
    return result


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


def _spectra(chunk: Tensor, frame: Tensor, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of `P C Pᵀ`."""
    rough = frame.to(precision)
    values, vectors = torch.linalg.eigh(rough @ (chunk.to(precision) @ rough.T))
    poor = ~(values[:, 0] * _SINGLE_CONDITION > values[:, -1])
    if precision == torch.float32 and poor.any():
        fine, directions = torch.linalg.eigh(frame @ (chunk[poor] @ frame.T))
        values[poor], vectors[poor] = fine.float(), directions.float()
    return values, vectors


def _mean_log(matrices: Tensor, frame: Tensor, precision: torch.dtype, every: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """The mean of `log(P C Pᵀ)`, and its eigenvalues and eigenvectors for one matrix in `every`."""
    total, sampled, step = torch.zeros_like(frame), [], chunk_length(matrices)
    for start in range(0, len(matrices), step):
        values, vectors = _spectra(matrices[start : start + step], frame, precision)
        logs = values.log()
        total += ((vectors * logs.unsqueeze(-2)) @ vectors.mT).sum(dim=0)
        sampled.append((logs[-start % every :: every].clone(), vectors[-start % every :: every].clone()))
    logs, vectors = (torch.cat(parts) for parts in zip(*sampled, strict=True))
    return total / len(matrices), logs, vectors


def _newton_step(frame: Tensor, gradient: Tensor, logs: Tensor, vectors: Tensor) -> Tensor:
    """The frame after a Newton step. Conjugate gradients solve the equation in few steps: its eigenvalues start at 1 and are close."""
    half = (logs.unsqueeze(2) - logs.unsqueeze(1)) / 2
    curvature = torch.where(half == 0, 1.0, half / half.tanh())
    direction, residual = torch.zeros_like(gradient), gradient
    search, squared = residual, residual.square().sum()
    enough = _UNSOLVED**2 * squared
    for _ in range(_CONJUGATE_STEPS):
        if squared <= enough:
            break
        image = _hessian(curvature, vectors, search)
        size = squared / (search * image).sum()
        direction, residual = direction + size * search, residual - size * image
        previous, squared = squared, residual.square().sum()
        search = residual + squared / previous * search
    return map_eigenvalues(-direction / 2, torch.exp) @ frame


def _hessian(curvature: Tensor, vectors: Tensor, tangent: Tensor) -> Tensor:
    """The Hessian of half the mean squared distance: `x coth x` of half the differences of logarithms (Ferreira et al.)."""
    total, tangent = torch.zeros_like(tangent), tangent.to(vectors.dtype)
    step = chunk_length(vectors)
    for weight, basis in zip(curvature.split(step), vectors.split(step), strict=True):
        total += (basis @ (basis.mT @ (tangent @ basis)).mul_(weight) @ basis.mT).sum(dim=0)
    return total / len(vectors)
