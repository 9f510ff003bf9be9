"""Linear maps learned from subjects with both atlases: plain ridge regression, and regression that starts from geometry."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from graphssl.atlases.apply import convert_matrices
from graphssl.atlases.geometry import conditional, field_map, fit_spatial_model, joint_correlation
from graphssl.atlases.label_volume import Parcellation, atlas_of
from graphssl.atlases.map import AtlasMap, Correction, Floats, identity_map
from graphssl.atlases.overlap import model_edge_error, same_parcellation
from graphssl.atlases.paired import PairedSubjects, held_out_error, mean_matrix
from graphssl.errors import DataError


def ridge_map(pairs: PairedSubjects, *, penalty: float = 0.05) -> AtlasMap:
    """Ridge regression of the target regions' z-scored series on the source regions', all subjects together, each counting alike.

    Args:
        pairs: Training subjects with time series in both atlases.
        penalty: Penalty, in units of a source region's variance.

    Raises:
        DataError: If the subjects have matrices only.
    """

    def fit(part: PairedSubjects) -> AtlasMap:
        within, across = mean_matrix(part.source), mean_matrix(_cross(part, "ridge"))
        weights: Floats = np.asarray(np.linalg.solve(within + penalty * np.eye(len(within)), across).T)
        return _learned(part, weights, "ridge", within, {"penalty": penalty})

    return held_out_error(fit, pairs, fit(pairs))


def joint_map(
    source: Parcellation,
    target: Parcellation,
    pairs: PairedSubjects,
    *,
    prior_subjects: float = 10.0,
    noise: float = 0.02,
    n_patterns: int = 100,
    shrinkage: float = 0.3,
) -> AtlasMap:
    """Regression that starts from geometry, keeps what the sources do not tell, and moves with the subject.

    1. The correlation of all regions of both atlases is the mean over subjects, mixed with that of the spatial model of
       [`geometry_map`][graphssl.atlases.geometry_map], which counts as `prior_subjects` subjects. It gives the weights, as regression does.
    2. What the target regions have beyond the weighted sum is a covariance of its own, added to every converted matrix: without it, regions with
       little explained are taken for more alike than they are.
    3. What remains differs between subjects, and partly goes with their source connectivity: a ridge regression on its leading patterns (principal
       components over training subjects) is added last. With fewer than `40` subjects it is left out.

    With matrices only, the weights are those of geometry, and steps 2 and 3 are learned.

    Args:
        source: Parcellation of the source, for the prior.
        target: Parcellation of the target.
        pairs: Training subjects with both atlases.
        prior_subjects: How many subjects geometry counts for.
        noise: Share of a source region's variance that is its own.
        n_patterns: Most patterns of the correction; none with 0.
        shrinkage: Penalty of the correction, in units of the first pattern's variance.

    Raises:
        DataError: If the parcellations are not those of the subjects' data.
    """
    for parcellation, atlas in ((source, pairs.source_atlas), (target, pairs.target_atlas)):
        found = atlas_of(parcellation)
        if found.labels.tolist() != atlas.labels.tolist():
            raise DataError(f"Expected the regions of the subjects' data ({atlas!r}), found {found!r}. Select their labels in the parcellation.")
    model = fit_spatial_model(source, mean_matrix(pairs.source))
    prior = joint_correlation(source, target, model)
    base = identity_map(pairs.source_atlas) if same_parcellation(source, target) else field_map(source, target, model, prior, noise=noise)

    def fit(part: PairedSubjects) -> AtlasMap:
        n = len(part.source_atlas)
        joint = _mixed(part, prior, prior_subjects)
        weights = conditional(joint, n, noise)[0] if part.cross is not None else base.weights
        unexplained = _definite(joint[n:, n:] - weights @ joint[:n, :n] @ weights.T)
        record = {"prior subjects": prior_subjects, "noise": noise, "field": base.record.get("field")}
        fitted = replace(_learned(part, weights, "joint", joint[:n, :n], record), unexplained=unexplained, coverage=base.coverage)
        patterns = min(n_patterns, len(part) // 4) if len(part) >= _FEWEST_CORRECTED else 0
        return _corrected(fitted, part, patterns, shrinkage) if patterns else fitted

    return held_out_error(fit, pairs, fit(pairs))


_FEWEST_CORRECTED = 40


def _cross(pairs: PairedSubjects, method: str) -> npt.NDArray[np.float32]:
    if pairs.cross is None:
        raise DataError(f"Expected time series in both atlases for the method {method!r}, found matrices. Use 'joint', which learns from them too.")
    return pairs.cross


def _learned(pairs: PairedSubjects, weights: Floats, method: str, within: Floats, record: dict[str, object]) -> AtlasMap:
    told = np.einsum("ij,jk,ik->i", weights, within, weights)
    return AtlasMap(
        pairs.source_atlas,
        pairs.target_atlas,
        weights,
        method,
        np.full(len(pairs.target_atlas), np.nan),
        source_covariance=within,
        standardized=True,
        edge_error=model_edge_error(np.clip(told, 0.0, 1.0)),
        record={**record, "subjects": len(pairs), "alignment": pairs.note, "error": "from what the weights tell"},
    )


def _mixed(pairs: PairedSubjects, prior: Floats, prior_subjects: float) -> Floats:
    """Joint correlation of both atlases `[R_s + R_t, R_s + R_t]`: the subjects' mean and the prior's, by their numbers of subjects."""
    n_source = len(pairs.source_atlas)
    across = prior[:n_source, n_source:] if pairs.cross is None else mean_matrix(pairs.cross)
    seen = np.block([[mean_matrix(pairs.source), across], [across.T, mean_matrix(pairs.target)]])
    return np.asarray((len(pairs) * seen + prior_subjects * prior) / (len(pairs) + prior_subjects))


def _definite(matrix: Floats) -> Floats:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)


def _corrected(fitted: AtlasMap, pairs: PairedSubjects, n_patterns: int, shrinkage: float) -> AtlasMap:
    mean = mean_matrix(pairs.source)
    moved = np.nan_to_num(pairs.source - mean.astype(np.float32)).reshape(len(pairs), -1)
    vectors = np.linalg.eigh(moved.astype(np.float64) @ moved.T)[1]
    leading = vectors[:, ::-1][:, :n_patterns]
    patterns = moved.T @ leading
    patterns /= np.linalg.norm(patterns, axis=0)
    scores = moved @ patterns
    missed = np.nan_to_num(pairs.target - convert_matrices(fitted, pairs.source).values).reshape(len(pairs), -1)
    missed -= missed.mean(axis=0)
    penalty = shrinkage * float((scores[:, 0] ** 2).mean()) * len(pairs)
    edges = np.linalg.solve(scores.T @ scores + penalty * np.eye(n_patterns), scores.T @ missed)
    n_source, n_target = len(pairs.source_atlas), len(pairs.target_atlas)
    correction = Correction(mean, patterns.T.reshape(n_patterns, n_source, n_source), edges.reshape(n_patterns, n_target, n_target))
    return replace(fitted, correction=correction)
