"""A method that several others stand on, fitted once on the same subjects and labels."""

from collections import OrderedDict
from typing import Any

import numpy.typing as npt
from sklearn.base import clone

from graphssl.data.cohort import Cohort
from graphssl.evaluation.described import described


def fitted_once(method: Any, cohort: Cohort, labels: npt.NDArray[Any], groups: object = None) -> Any:
    """A clone of the method, fitted, or the one that was fitted on the same before.

    Args:
        method: A method with `fit(cohort, labels, groups)`.
        cohort: Training cohort of `n` subjects.
        labels: Class index of each subject `[n]`, `-1` where it is withheld.
        groups: Passed on.
    """
    # The hash holds values only; roles of columns say who belongs to a family.
    key = (cohort.hash, repr([cohort.schema, labels.tolist(), described(method)]))
    if key not in _FITTED:
        _FITTED[key] = clone(method).fit(cohort, labels, groups)
    _FITTED.move_to_end(key)
    while len(_FITTED) > _MAX_FITTED:
        _FITTED.popitem(last=False)
    return _FITTED[key]


_FITTED: OrderedDict[Any, Any] = OrderedDict()
_MAX_FITTED = 16
