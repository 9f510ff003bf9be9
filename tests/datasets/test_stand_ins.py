"""Stand-ins have the labels or names that files carry, and no places."""

from pathlib import Path

import numpy as np
import pandas as pd

from graphssl.datasets.scan_files import Choices, Content, Scan
from graphssl.datasets.stand_ins import stand_in, unknown_atlases

RELMAT = Content("relmat.tsv")


def scan_in(folder: Path, atlas: str, names: list[str], content: Content = RELMAT) -> Scan:
    path = folder / f"{atlas}_{content.words}"
    pd.DataFrame(np.eye(len(names)), columns=names).to_csv(path, sep="\t", index=False)
    return Scan(path, "sub-1", content, atlas)


def test_the_first_file_of_each_atlas_gives_labels_or_names(tmp_path):
    scans = [scan_in(tmp_path, "A", list("abcde")), scan_in(tmp_path, "B", ["3", "7", "11", "12", "40"])]
    found = {atlas.name: atlas for atlas in unknown_atlases(scans, Choices())}
    assert found["A"].names == tuple("abcde")
    assert found["B"].labels.tolist() == [3, 7, 11, 12, 40]
    assert not found["B"].centroids.any()


def test_the_content_that_would_be_read_counts(tmp_path):
    scans = [scan_in(tmp_path, "", ["x", "y"], Content("late.tsv", rank=1)), scan_in(tmp_path, "", list("abc"), Content("early.tsv"))]
    [found] = unknown_atlases(scans, Choices())
    assert (found.name, found.names) == ("unnamed", ("a", "b", "c"))


def test_columns_that_say_nothing():
    assert stand_in("x", ("0", "1"), 2).labels.tolist() == [1, 2], "counted columns are no labels"
    assert stand_in("x", ("a", "b"), 3).names == ("", "", "")
    assert stand_in("x", None, 2).labels.tolist() == [1, 2]
