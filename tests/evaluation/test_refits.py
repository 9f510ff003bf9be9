"""Maps of refitted models are those of fits by hand, on training subjects only, and are not made twice."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from graphssl.encoders import GraphTransformer
from graphssl.estimators import ConnectomeClassifier
from graphssl.evaluation import refit_saliencies, saliency
from graphssl.evaluation.protocol_splits import make_splits
from graphssl.evaluation.task import make_task


@pytest.fixture(scope="module")
def cohort(make_cohort):
    return make_cohort(n_subjects=16, n_regions=8, n_timepoints=20, effect=1.0)


def test_maps_are_those_of_fits_by_hand_and_are_kept(cohort, tmp_path):
    method = ConnectomeClassifier(encoder=GraphTransformer(8, 1, 2), mode="probe")
    task = make_task(cohort, None, None, "leave_one_site_out")
    splits = make_splits(cohort, task, "leave_one_site_out")
    units = [(splits[0], 0), (splits[1], 3)]
    found = refit_saliencies(cohort, method, task, units, folder=tmp_path)
    assert found.shape == (2, 8, 8)
    for (split, seed), one in zip(units, found, strict=True):
        train = cohort.select(split.train)
        y = np.asarray([task.labels[s] for s in split.train])
        by_hand = ConnectomeClassifier(encoder=GraphTransformer(8, 1, 2), mode="probe", seed=seed).fit(train, y)
        assert_array_equal(one, saliency(by_hand.model_, train).connections)
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 2
    np.save(kept[0], np.zeros((8, 8), np.float32))
    again = refit_saliencies(cohort, method, task, units, folder=tmp_path)
    assert sorted(int((one == 0).all()) for one in again) == [0, 1], "a finished map is read, not made"
