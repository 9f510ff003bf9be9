"""The atlas container: regions are known by label, and it travels whole."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphssl.atlases import load_atlas
from graphssl.data import Atlas
from graphssl.data.atlas import check_atlas
from graphssl.errors import AtlasError


def make(labels=(3, 7, 12), names=("left", "right", ""), networks=("Visual", "", "Default"), centroids=None, **changes):
    centroids = np.arange(3.0 * len(labels)).reshape(-1, 3) if centroids is None else centroids
    return Atlas(**{"name": "toy", "labels": np.array(labels), "names": names, "centroids": centroids, "networks": networks, **changes})


@st.composite
def atlases(draw):
    labels = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=6, unique=True))
    n = len(labels)
    words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    return Atlas(
        draw(words),
        np.array(labels),
        tuple(draw(st.lists(words, min_size=n, max_size=n))),
        np.array(draw(st.lists(st.tuples(*[st.floats(-120, 120, width=32)] * 3), min_size=n, max_size=n))),
        tuple(draw(st.lists(words, min_size=n, max_size=n))),
    )


@settings(max_examples=50, deadline=None)
@given(atlas=atlases())
def test_round_trip_through_json(atlas):
    again = Atlas.from_dict(json.loads(json.dumps(atlas.to_dict())))
    assert (again.name, again.names, again.networks, again.space, again.hash) == (atlas.name, atlas.names, atlas.networks, atlas.space, atlas.hash)
    np.testing.assert_array_equal(again.labels, atlas.labels)
    np.testing.assert_array_equal(again.centroids, atlas.centroids)


@settings(max_examples=50, deadline=None)
@given(atlas=atlases(), data=st.data())
def test_selecting_by_label_keeps_each_region_whole(atlas, data):
    wanted = data.draw(st.lists(st.sampled_from(atlas.labels.tolist()), min_size=1, unique=True))
    chosen = atlas.select(wanted)
    assert chosen.labels.tolist() == wanted
    for k, label in enumerate(wanted):
        i = atlas.labels.tolist().index(label)
        assert (chosen.names[k], chosen.networks[k]) == (atlas.names[i], atlas.networks[i])
        np.testing.assert_array_equal(chosen.centroids[k], atlas.centroids[i])
    assert chosen.select(atlas.select(wanted).labels).hash == chosen.hash


def test_what_it_knows():
    atlas = make()
    assert len(atlas) == 3
    assert atlas.network_names == ("Default", "Visual")
    assert atlas.display_names == ("left", "right", "toy-12")
    assert atlas.centroids.dtype == np.float32
    assert atlas.labels.dtype == np.int64
    assert repr(atlas) == f"Atlas('toy', 3 regions, 2 networks, MNI152, hash {atlas.hash})"


def test_the_hash_is_of_labels_and_names():
    atlas = make()
    assert len(atlas.hash) == 12
    assert make(name="other", networks=("",) * 3, centroids=np.ones((3, 3))).hash == atlas.hash
    assert make(labels=(3, 7, 13)).hash != atlas.hash
    assert make(names=("left", "right", "stem")).hash != atlas.hash
    assert atlas.select([7, 3, 12]).hash != atlas.hash, "another order is another atlas"


def test_no_region():
    with pytest.raises(AtlasError, match="Expected at least one region in atlas 'toy', found none"):
        make(labels=(), names=(), networks=())


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"names": ("a", "b")}, r"found \{'names': 2\}"),
        ({"networks": ("a",)}, r"found \{'networks': 1\}"),
        ({"centroids": np.zeros((2, 3))}, r"found \{'centroids': 2\}"),
        ({"centroids": np.zeros((3, 2))}, r"found \(3, 2\)"),
    ],
)
def test_lengths_that_disagree(changes, found):
    with pytest.raises(AtlasError, match=rf"Expected 3 names, networks and centroids \[R, 3\] for the 3 labels of atlas 'toy'; {found}"):
        make(**changes)


def test_repeated_labels():
    with pytest.raises(AtlasError, match=r"Expected unique labels in atlas 'toy', found repeated \[7\]"):
        make(labels=(7, 3, 7))


@pytest.mark.parametrize("labels", [(0, 1, 2), (-1, 1, 2), (1.5, 2, 3), ("a", "b", "c"), (float("nan"), 1, 2), ((1, 2, 3),)])
def test_labels_that_are_no_positive_whole_numbers(labels):
    with pytest.raises(AtlasError, match="Expected positive whole numbers as labels of atlas 'toy', found .*Label 0 is the background"):
        make(labels=labels, centroids=np.zeros((3, 3)))


def test_centroids_that_are_not_finite():
    centroids = np.zeros((3, 3))
    centroids[1, 2] = np.nan
    with pytest.raises(AtlasError, match=r"Expected finite centroids in atlas 'toy'; labels \[7\] have none"):
        make(centroids=centroids)


def test_selecting_what_is_not_there():
    with pytest.raises(AtlasError, match=r"Expected labels of atlas 'toy' \(3 regions\), found 2 unknown: \[4, 5\]"):
        make().select([3, 4, 5])


def test_records_that_do_not_fit():
    record = make().to_dict()
    with pytest.raises(AtlasError, match="Expected atlas 'toy' with hash .*, found .*: its labels or names were changed"):
        Atlas.from_dict(record | {"labels": [3, 7, 13]})
    with pytest.raises(AtlasError, match="Expected an atlas record with the entry 'hash', found"):
        Atlas.from_dict({name: value for name, value in record.items() if name != "hash"})


def test_the_same_atlas_and_others():
    atlas = make()
    check_atlas(atlas, make())
    check_atlas(atlas, make(centroids=atlas.centroids + 2))
    with pytest.raises(AtlasError, match="Expected the regions of atlas 'toy' where the model knows them, found them 52 mm away on average"):
        check_atlas(atlas, make(centroids=atlas.centroids + 30))
    with pytest.raises(AtlasError, match=r"labels only in the model \[3\], only in the data \[4\]"):
        check_atlas(atlas, make(labels=[4, 7, 12]))
    with pytest.raises(AtlasError, match="the same labels in another order or under other names"):
        check_atlas(atlas, make(names=("x", "y", "z")))


@pytest.mark.parametrize("change", [{"labels": [1, [2]]}, {"names": None}, {"centroids": "x"}])
def test_a_damaged_record(change):
    with pytest.raises(AtlasError):
        Atlas.from_dict({**load_atlas("simulated20").to_dict(), **change})
