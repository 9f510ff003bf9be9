"""The tangent space of covariance matrices at their geometric mean.

After Varoquaux et al., "Detection of brain functional-connectivity difference in post-stroke patients using group-level covariance modeling",
MICCAI 2010.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

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
# Logarithms follow a last step of the mean to first order if its norm is below this number a region. That is exact to about one part in 500 of it.
_SHORT_STEP = 1.25e-4
_CHUNK_ELEMENTS = 2**18


def geometric_mean(
    matrices: Float[Tensor, "n R R"],
    *,
    init: Float[Tensor, "R R"] | None = None,
    tolerance: float = 1e-7,
    max_iterations: int = 30,
    logs: Float[Tensor, "n R R"] | None = None,
) -> Float[Tensor, "R R"]:
    """The matrix with the smallest sum of squared affine-invariant distances to the given ones (Karcher or Fréchet mean).

    Newton's method along geodesics (Ferreira et al., IEEE Journal of Selected Topics in Signal Processing 2013) with the Hessian of an evenly spaced
    sample of the matrices (Roosta-Khorasani & Mahoney, Mathematical Programming 2019), which costs little beside the gradient, and is close enough to
    that of all to make the gradient about thirty times smaller a step. Where there are many matrices it starts from the sample's mean. The gradient
    at `G` is the mean of `log(W C W)`, where `W` is the inverse square root of `G`.

    Args:
        matrices: Symmetric positive definite matrices `[n, R, R]` in double precision, at least one.
        init: Where to start; one Newton step from the arithmetic mean of the sample when left out.
        tolerance: Stop when the norm of the mean logarithm, divided by `R²`, falls below it (nilearn's criterion), or is expected to after the step
            that is taken, judging by how much the one before it helped.
        max_iterations: Warn and stop after that many.
        logs: Where to write the tangent vectors at the mean `[n, R, R]`, in single precision; see `log_map`, which would decompose every matrix once
            more for them.
    """
    every = max(1, min(len(matrices) // _SAMPLE, _SPARSEST))
    enough, floor = tolerance * matrices[0].numel(), _SINGLE_DIGITS * matrices.shape[1]
    mean = matrices[::every].mean(dim=0) if init is None else init
    if init is None and every > 1:
        mean = _along(_newton_step(*_mean_log(matrices[::every], mean, torch.float32)), mean)
    norm, length, single = float("inf"), 1.0, True
    for _ in range(max_iterations):
        gradient, sample = _mean_log(matrices, mean, torch.float32 if single else torch.float64, every, logs)
        before, norm = norm, float(gradient.norm())
        length = 1.0 if norm < before else length / 2
        step = _newton_step(length * gradient, sample)
        last, mean = mean, _along(step, mean)
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
    if logs is not None:
        _finish_logs(logs, matrices, mean, last, step, sample)
    return mean


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
        found.copy_(_with_eigenvalues(values.log(), vectors))
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


def _with_eigenvalues(values: Tensor, vectors: Tensor) -> Tensor:
    half = (vectors * (values / 2).unsqueeze(-2)) @ vectors.mT
    return half + half.mT  # the two triangles are equal to the last bit


def _spectra(chunk: Tensor, whitening: Tensor, precision: torch.dtype) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of `W C W`."""
    rough = whitening.to(precision)
    values, vectors = torch.linalg.eigh(rough @ (chunk.to(precision) @ rough))
    poor = ~(values[:, 0] * _SINGLE_CONDITION > values[:, -1])
    if precision == torch.float32 and poor.any():
        fine, directions = torch.linalg.eigh(whitening @ (chunk[poor] @ whitening))
        values[poor], vectors[poor] = fine.float(), directions.float()
    return values, vectors


@dataclass(frozen=True)
class _Sample:
    """Logarithms of eigenvalues `[s, R]` and eigenvectors `[s, R, R]` of a sample of the whitened matrices."""

    logs: Tensor
    vectors: Tensor

    @cached_property
    def differences(self) -> Tensor:
        """Differences of the logarithms `[s, R, R]`."""
        return self.logs.unsqueeze(2) - self.logs.unsqueeze(1)

    @cached_property
    def curvature(self) -> Tensor:
        """The Hessian in the basis of the eigenvectors: `x coth x` of half the differences (Ferreira et al.)."""
        half = self.differences / 2
        return torch.where(half == 0, 1.0, half / half.tanh())


def _mean_log(matrices: Tensor, mean: Tensor, precision: torch.dtype, every: int = 1, kept: Tensor | None = None) -> tuple[Tensor, _Sample]:
    """The mean of `log(W C W)`, and one matrix in `every` as a sample; the logarithms themselves are kept if there is room for them."""
    whitening = map_eigenvalues(mean, torch.rsqrt)
    total, sampled, step = torch.zeros_like(mean), [], chunk_length(matrices)
    for start in range(0, len(matrices), step):
        values, vectors = _spectra(matrices[start : start + step], whitening, precision)
        logs = values.log()
        found = _with_eigenvalues(logs, vectors)
        if kept is not None:
            kept[start : start + step] = found
        total += found.sum(dim=0)
        sampled.append((logs[-start % every :: every].clone(), vectors[-start % every :: every].clone()))
    return total / len(matrices), _Sample(*(torch.cat(parts) for parts in zip(*sampled, strict=True)))


def _newton_step(gradient: Tensor, sample: _Sample) -> Tensor:
    """The step to the mean, as a tangent vector. Conjugate gradients solve for it in few steps: the Hessian's eigenvalues are close."""
    direction, residual = torch.zeros_like(gradient), gradient
    search, squared = residual, residual.square().sum()
    enough = _UNSOLVED**2 * squared
    for _ in range(_CONJUGATE_STEPS):
        if squared <= enough:
            break
        image = _hessian(sample, search)
        size = squared / (search * image).sum()
        direction, residual = direction + size * search, residual - size * image
        previous, squared = squared, residual.square().sum()
        search = residual + squared / previous * search
    return direction


def _along(step: Tensor, mean: Tensor) -> Tensor:
    """The mean after a step along the geodesic."""
    root = map_eigenvalues(mean, torch.sqrt)
    moved = root @ map_eigenvalues(step, torch.exp) @ root
    return (moved + moved.T) / 2


def _finish_logs(logs: Tensor, matrices: Tensor, mean: Tensor, last: Tensor, step: Tensor, sample: _Sample) -> None:
    """From logarithms at the last mean to those at the next, a step `D` away, in place.

    To first order a logarithm `L` becomes `L - h(L) D`, where `h` is the Hessian: `x coth x` of half the commutator with `L`. For short steps two
    terms of it do, `D + c [L, [L, D]]`, with the `c` that fits the sample best. What turns back to a symmetric whitening, a small rotation `I + K`,
    adds `[L, K]`.
    """
    whitening = map_eigenvalues(mean, torch.rsqrt)
    if float(step.norm()) > _SHORT_STEP * len(step):
        logs.copy_(log_map(matrices, whitening, precision=logs.dtype))
        return
    squares = sample.differences.square()
    share = float((squares * (sample.curvature - 1)).sum() / squares.square_().sum().clamp(min=torch.finfo(squares.dtype).tiny))
    turn = map_eigenvalues(-step / 2, torch.exp) @ map_eigenvalues(last, torch.rsqrt) @ map_eigenvalues(mean, torch.sqrt)
    step, rotation = step.to(logs.dtype), ((turn - turn.T) / 2).to(logs.dtype)
    for chunk in logs.split(chunk_length(logs)):
        product = chunk @ (-share * step)
        moved = chunk @ (product - product.mT + rotation)
        chunk += moved + moved.mT - step


def _hessian(sample: _Sample, tangent: Tensor) -> Tensor:
    """The Hessian of half the mean squared distance, applied to a tangent vector."""
    total, tangent = torch.zeros_like(tangent), tangent.to(sample.vectors.dtype)
    step = chunk_length(sample.vectors)
    for weight, basis in zip(sample.curvature.split(step), sample.vectors.split(step), strict=True):
        total += (basis @ (basis.mT @ (tangent @ basis)).mul_(weight) @ basis.mT).sum(dim=0)
    return total / len(sample.vectors)
