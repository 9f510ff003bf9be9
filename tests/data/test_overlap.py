"""Who is in two cohorts: by id, by family, by data, whatever the data are."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from graphssl.data import Cohort, Column, Schema, overlap
from graphssl.data.overlap import certain_overlap, contents, repeated, telling_columns
from graphssl.data.pooled import pooled
from graphssl.datasets import load_images, simulate_images
from graphssl.datasets.simulate_stays import simulate_stays


def table(ids, values, group=None, kind="continuous"):
    columns = [f"x{k}" for k in range(np.shape(values)[1])]
    rows = pd.DataFrame(values, index=pd.Index(ids, dtype="str"), columns=columns)
    cohort = Cohort("table", rows, Schema([Column(name, kind) for name in columns]))
    return cohort if group is None else cohort.with_column(Column("family", "categorical", "group"), pd.Series(group, index=rows.index, dtype="str"))


VALUES = np.random.default_rng(0).normal(size=(6, 5))


def test_ids_data_and_families_are_told_apart():
    pool = table(list("abcdef"), VALUES, ["1", "1", "2", "2", "3", None])
    others = table(["a", "x", "y"], np.vstack([VALUES[:1] + 1, VALUES[2:3], VALUES[:1] + 2]), ["9", "8", "3"])
    found = overlap(pool, others)
    assert found.reset_index().to_numpy().tolist() == [
        ["a", "a", "the same id"],
        ["b", "a", "the same family"],
        ["c", "x", "identical data"],
        ["d", "x", "the same family"],
        ["e", "y", "the same family"],
    ]
    assert overlap(pool, others, families=False).index.tolist() == ["a", "c"]
    assert overlap(pool, others, known=contents(pool, telling_columns(pool, others))).equals(found)
    assert overlap(pool.select(["f"]), others).empty


def test_rows_of_few_numbers_tell_nobody():
    """Two patients may both be 60 years old and female."""
    few = np.where(np.arange(5) < 3, VALUES, np.nan)
    pool, others = table(list("abcdef"), few), table(list("uvwxyz"), few)
    assert overlap(pool, others).empty
    assert overlap(table(list("abcdef"), VALUES[:, :3]), table(list("uvwxyz"), VALUES[:, :3])).empty
    assert len(overlap(table(list("abcdef"), VALUES), table(list("uvwxyz"), VALUES))) == 6
    assert contents(table(list("abcdef"), VALUES)).empty


def test_repeated_subjects_name_the_first():
    cohort = table(list("abcd"), VALUES[[0, 1, 0, 0]])
    assert repeated(cohort).reset_index().to_numpy().tolist() == [["c", "a", "identical data"], ["d", "a", "identical data"]]
    assert repeated(table(list("abc"), VALUES[:3])).empty


def test_a_patient_with_one_new_image_is_not_repeated(tmp_path):
    images = simulate_images(3, size=16, images_per_subject=2, folder=tmp_path)
    data = images.images["images"]
    parts = data.table["part"].tolist()
    swapped = data.table.assign(part=[*parts[:2], parts[0], parts[3], *parts[:2]])
    assert repeated(replace(images, images={"images": replace(data, table=swapped)})).index.tolist() == ["patient-0002"]


def test_images_are_known_by_what_they_show(tmp_path):
    """The same pixels in an NPZ file and as PNG; a black image is everybody's."""
    arrays = simulate_images(3, size=16, folder=tmp_path / "npz")
    with np.load(tmp_path / "npz" / "images.npz") as file:
        pixels = file["images"]
    (tmp_path / "png").mkdir()
    for name, values in (("one", pixels[1]), ("black", np.zeros_like(pixels[0])), ("dark", np.zeros_like(pixels[0]))):
        Image.fromarray(values).save(tmp_path / "png" / f"{name}.png")
    pictures = load_images(tmp_path / "png")
    assert overlap(pictures, arrays)["other"].to_dict() == {next(i for i in pictures.ids if "one" in i): "patient-0001"}
    assert repeated(pictures).empty


def test_brains_and_stays_are_known_again(make_cohort):
    brains, stays = make_cohort(), simulate_stays(6, seed=0)
    for cohort in (brains, stays):
        again = pooled({"again": cohort})
        found = overlap(again, cohort)
        assert found["reason"].eq("identical data").all()
        assert found["other"].tolist() == [subject.removeprefix("again/") for subject in found.index]
        assert len(found) == len(cohort)


@pytest.mark.parametrize("n", [1, 5])
def test_a_cohort_is_all_in_itself(n):
    cohort = table(list("abcde"), VALUES[:5])[:n]
    assert overlap(cohort, cohort)["reason"].tolist() == ["the same id"] * n


def test_what_is_certain_leaves_out_names_of_other_cohorts_and_rows_of_tables():
    """Two hospitals number their patients alike, and two patients may have the same values."""
    pool, others = table(list("abcdef"), VALUES, list("112233")), table(list("axyzvw"), np.roll(VALUES, 1, axis=0), list("144556"))
    assert certain_overlap(pool, others).reset_index().to_numpy().tolist() == [["a", "a", "the same id"], ["b", "a", "the same family"]]
    assert certain_overlap(pool, replace(others, name="elsewhere")).empty
    assert len(overlap(pool, replace(others, name="elsewhere"))) == 6


def test_a_scan_is_known_in_any_precision_and_an_empty_one_tells_nobody(make_cohort):
    cohort = make_cohort(n_subjects=4)
    data = cohort.regions["toy"]
    blank = {subject: np.zeros_like(values) for subject, values in data.values.items()}
    for values, n in ((data.values, 4), ({s: v.astype(np.float64) for s, v in data.values.items()}, 4), (blank, 0)):
        again = pooled({"again": replace(cohort, regions={"toy": replace(data, values=values)})})
        assert len(certain_overlap(again, cohort)) == n
        assert len(contents(again)) == n
    assert certain_overlap(replace(cohort, name="bare", regions={}), pooled({"again": cohort})).empty
