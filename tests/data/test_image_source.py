"""Decoding when asked, keeping what fits, and files that changed."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from graphssl.data import ImageData
from graphssl.data.image_files import content_hash
from graphssl.data.image_preparation import Preparation
from graphssl.data.image_source import ImageSource
from graphssl.errors import DataError


@pytest.fixture
def data(tmp_path):
    """Six images `[4, 5]` full of their number, the even ones with a mask of which one row is class 1."""
    rows = []
    for k in range(6):
        Image.fromarray(np.full((4, 5), k, np.uint8)).save(tmp_path / f"{k}.png")
        mask = f"{k}_mask.png" if k % 2 == 0 else ""
        if mask:
            Image.fromarray((np.arange(4)[:, None] == k % 4).astype(np.uint8).repeat(5, axis=1) * 255).save(tmp_path / mask)
        digest = content_hash(tmp_path / mask) if mask else ""
        rows.append((f"s{k}", f"{k}.png", "", content_hash(tmp_path / f"{k}.png"), 1, (4, 5), (), mask, "", digest))
    columns = ["subject_id", "path", "part", "hash", "channels", "shape", "spacing", "mask_path", "mask_part", "mask_hash"]
    return ImageData(pd.DataFrame(rows, columns=columns), 2, root=tmp_path, classes=("background", "line"), mask_values=(0, 255))


def first_values(images):
    return images.flatten(start_dim=1)[:, 0].tolist()


@pytest.mark.parametrize("n_kept", [0, 1, 3, 100])
def test_rows_come_in_the_order_asked_for_however_many_are_kept(data, n_kept):
    source = ImageSource(data, Preparation((4, 5)), memory=n_kept * 4 * 5 * 4)
    for rows in ([3, 1], [1, 1, 5, 0], [], [0, 1, 2, 3, 4, 5], [5, 4]):
        images = source.images(rows)
        assert images.shape == (len(rows), 1, 4, 5)
        assert first_values(images) == [float(row) for row in rows]


def test_what_is_kept_is_not_read_again(data, tmp_path):
    source = ImageSource(data, Preparation((4, 5)), memory=2 * 4 * 5 * 4)
    source.images([4, 2])
    for k in (4, 2, 0):
        (tmp_path / f"{k}.png").unlink()
    assert first_values(source.images([2, 4])) == [2.0, 4.0]
    with pytest.raises(DataError, match=r"0\.png, found nothing"):
        source.images([2, 0])


def test_masks_are_classes_and_unknown_where_there_is_none(data):
    masks = ImageSource(data, Preparation((4, 5))).masks([0, 1, 2])
    assert masks.dtype == torch.int64
    assert masks[:, :, 0].tolist() == [[1, 0, 0, 0], [-1, -1, -1, -1], [0, 0, 1, 0]]


def test_a_file_that_changed_is_refused(data, tmp_path):
    Image.fromarray(np.full((4, 5), 9, np.uint8)).save(tmp_path / "3.png")
    with pytest.raises(DataError, match=r"3\.png as it was when the cohort was made, found other content"):
        ImageSource(data, Preparation((4, 5))).images([3])


def changed_mask(data, tmp_path, values):
    Image.fromarray(values).save(tmp_path / "0_mask.png")
    table = data.table.assign(mask_hash=[content_hash(tmp_path / "0_mask.png"), *data.table["mask_hash"][1:]])
    return ImageSource(ImageData(table, 2, root=tmp_path, classes=data.classes, mask_values=data.mask_values), Preparation((4, 5)))


def test_masks_that_do_not_fit_are_named(data, tmp_path):
    with pytest.raises(DataError, match=r"0_mask\.png: Expected the values \[0, 255\] .* found \[7\] besides"):
        changed_mask(data, tmp_path, np.full((4, 5), 7, np.uint8)).masks([0])
    with pytest.raises(DataError, match=r"0_mask\.png to have the shape \(4, 5\) of its image, found \(5, 4\)"):
        changed_mask(data, tmp_path, np.zeros((5, 4), np.uint8)).masks([0])


def test_the_signature_is_that_of_contents_and_preparation(data):
    source = ImageSource(data, Preparation((4, 5)))
    assert source.signature([0, 1]) == ImageSource(data, Preparation((4, 5))).signature([0, 1])
    assert len({source.signature([0, 1]), source.signature([1, 0]), ImageSource(data, Preparation((4, 4))).signature([0, 1])}) == 3
