"""DICOM: slices in order, rescaled, and what is refused."""

from contextlib import suppress

import numpy as np
import pytest

from graphssl.data.dicom import find_series, read_dicom, read_header, series_files
from graphssl.data.image_files import read_picture
from graphssl.errors import DataError

VALUES = np.random.default_rng(0).integers(-900, 900, (5, 4, 6)).astype(np.int16)  # slices to the head, rows to the back, columns to the left


def test_slices_come_in_the_order_in_which_they_lie(tmp_path, write_dicom):
    picture = read_picture(write_dicom(tmp_path / "ct", VALUES), "1.2.3", 3)
    assert np.array_equal(picture.pixels[0], VALUES[:, ::-1, ::-1])  # RAS: rows to the front, columns to the right
    assert picture.spacing == (3.0, 0.5, 0.75)


def test_the_affine_says_where_voxels_lie(tmp_path, write_dicom):
    values, affine, _ = read_dicom(write_dicom(tmp_path / "ct", VALUES))
    assert values.shape == (6, 4, 5)
    assert np.allclose(affine @ [2, 3, 4, 1], [10.0 - 2 * 0.75, 20.0 - 3 * 0.5, 30.0 + 4 * 3.0, 1.0])


def test_values_are_rescaled_and_inverted_ones_turned(tmp_path, write_dicom):
    rescaled = read_picture(write_dicom(tmp_path / "a", VALUES, RescaleSlope=2.0, RescaleIntercept=-1024.0), "", 3)
    assert np.array_equal(rescaled.pixels[0], 2.0 * VALUES[:, ::-1, ::-1].astype(np.float32) - 1024.0)
    inverted = read_picture(write_dicom(tmp_path / "b", VALUES, PhotometricInterpretation="MONOCHROME1"), "", 3)
    assert np.array_equal(inverted.pixels[0], -1 - VALUES[:, ::-1, ::-1].astype(int))


def test_one_slice_is_an_image(tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "x-ray", VALUES[:1])
    picture = read_picture(next(folder.iterdir()), "", 2)
    assert np.array_equal(picture.pixels, VALUES[:1])
    assert picture.spacing == (0.5, 0.75)


def test_frames_of_one_file_are_a_clip(tmp_path, write_dicom):
    pixels = np.ascontiguousarray(VALUES, dtype="<i2").tobytes()
    folder = write_dicom(tmp_path / "cine", VALUES[:1], NumberOfFrames=5, FrameTime=40.0, PixelData=pixels)
    picture = read_picture(next(folder.iterdir()), "", 3)
    assert np.array_equal(picture.pixels, VALUES[None])
    assert picture.spacing == (0.04, 0.5, 0.75)


def test_series_of_a_folder_are_told_apart(tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "study", VALUES, series="1.2.3", name="a")
    write_dicom(folder, VALUES[:2], series="1.2.4", name="b")
    (folder / "notes.txt").write_text("no DICOM")
    assert {uid: len(files) for uid, files in find_series(folder).items()} == {"1.2.3": 5, "1.2.4": 2}
    assert len(series_files(folder, "1.2.4")) == 2
    assert read_header(series_files(folder, "1.2.4")[0]).PatientID == "p"
    with pytest.raises(DataError, match=r"series \(unnamed\) in .*study, found \['1.2.3', '1.2.4'\]. Name one"):
        series_files(folder, "")
    with pytest.raises(DataError, match="series 9 in"):
        series_files(folder, "9")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"skip": (2,)}, r"even distances in .*ct, about 3 mm; found others between 33 and 39 mm. A slice is missing"),
        ({"ImagePositionPatient": [0, 0, 0]}, "found others between all of them. A slice is missing or there twice"),
    ],
)
def test_missing_and_repeated_slices_are_refused(tmp_path, write_dicom, change, match):
    with pytest.raises(DataError, match=match):
        read_picture(write_dicom(tmp_path / "ct", VALUES, **change), "", 3)


def test_slices_that_do_not_fit_are_refused(tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "ct", VALUES[:3], name="a")
    write_dicom(folder, np.concatenate([VALUES, VALUES])[4:6], spacing=(3.0, 0.6, 0.75), name="b")
    with pytest.raises(DataError, match="Expected one PixelSpacing in the slices"):
        read_picture(folder, "", 3)
    import pydicom

    for path in folder.glob("a-*.dcm"):
        image = pydicom.dcmread(path)
        del image.ImagePositionPatient
        image.save_as(path)
    with pytest.raises(DataError, match="Expected ImagePositionPatient in every slice"):
        read_picture(folder, "", 3)


def test_a_truncated_slice_is_named(tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "ct", np.repeat(np.repeat(VALUES, 8, axis=1), 8, axis=2))
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"pixels that can be decoded in .*{path.name}, found none: a damaged or truncated file"):
        read_picture(folder, "", 3)


def test_a_damaged_header_is_named_or_read_as_far_as_it_goes(tmp_path, write_dicom):
    folder = write_dicom(tmp_path / "ct", VALUES[:1])
    (path,) = folder.iterdir()
    whole, refused = path.read_bytes(), 0
    for n in range(132, 400, 3):
        path.write_bytes(whole[:n])
        with suppress(DataError):
            read_header(path)
            continue
        refused += 1
        with pytest.raises(DataError, match=f"whole DICOM file at {path}, found a damaged one"):
            find_series(folder)
    assert refused > 2
