"""Hints at the atlas of files: by names, label ids and number of regions."""

import numpy as np
import pytest

from graphssl.atlases import fetch_atlas, guess_atlases, list_atlases
from graphssl.data import Atlas
from graphssl.errors import AtlasError


def regions(n_regions, names=None, labels=None, name="regions"):
    names = names or ("",) * n_regions
    return Atlas(name, np.arange(1, n_regions + 1) if labels is None else labels, names, np.zeros((n_regions, 3)), ("",) * n_regions)


def test_names_tell_before_the_number_does():
    names = tuple(f"7Networks_LH_Vis_{k}" for k in range(200))
    assert guess_atlases(regions(200, names))[0] == "schaefer200 (graphssl.atlases.fetch_atlas('schaefer200'))"
    assert guess_atlases(regions(200))[0] == "cc200 of the Preprocessed Connectomes Project"
    assert guess_atlases(regions(50, tuple(f"LH_Default_{k}" for k in range(50)))) == ("schaefer50",)
    assert guess_atlases(regions(100, name="Schaefer2018100Parcels7Networks"))[0].startswith("schaefer100 ")


def test_labels_of_aal():
    labels = np.r_[2001, 2002, 3001:3113, 9081, 9170]
    assert guess_atlases(regions(116, labels=labels))[0].startswith("aal116 ")
    assert guess_atlases(regions(90, ("Precentral_L", *(f"x{k}" for k in range(89)))))[0] == "aal90"


def test_an_atlas_that_is_at_hand_is_offered():
    assert guess_atlases(regions(264)) == ("power264 (--atlas power264)",)


def test_nothing_is_known_of_other_sizes():
    assert guess_atlases(regions(17)) == ()


@pytest.mark.parametrize("n_regions", [100, 116, 160, 200, 264, 300, 1000])
def test_what_is_offered_exists(n_regions):
    for guess in guess_atlases(regions(n_regions)):
        if "(" in guess and ("--atlas" in guess or "fetch_atlas" in guess):
            assert guess.partition(" ")[0] in list_atlases(download=True)
    with pytest.raises(AtlasError):
        fetch_atlas("schaefer50")
