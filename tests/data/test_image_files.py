"""Files of images decoded: every kind written small, read back, and damaged."""

import gzip
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import nibabel
import numpy as np
import pytest
from PIL import Image

from graphssl.data.image_files import array_names, array_of, content_hash, read_picture
from graphssl.errors import DataError, MissingExtraError

RAMP = (np.arange(60, dtype=np.uint8).reshape(5, 12) * 4).astype(np.uint8)


def write_video(path, frames, pixel_format="gray"):
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if path.suffix == ".mkv" else "mpeg4", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for values in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(values, format="gray" if values.ndim == 2 else "rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.mark.parametrize("ending", ["png", "tif", "bmp"])
def test_gray_images_keep_their_values(tmp_path, ending):
    path = tmp_path / f"image.{ending}"
    Image.fromarray(RAMP).save(path)
    picture = read_picture(path, "", 2)
    assert np.array_equal(picture.pixels, RAMP[None])
    assert (picture.pixels.dtype, picture.spacing) == (np.uint8, ())


def test_sixteen_bits_stay_sixteen_bits(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16) * 200).save(tmp_path / "image.png")
    assert np.array_equal(read_picture(tmp_path / "image.png", "", 2).pixels[0], RAMP.astype(np.uint16) * 200)


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("RGBA", 3), ("P", 3), ("LA", 1), ("1", 1), ("CMYK", 3)])
def test_colour_comes_as_three_channels_without_transparency(tmp_path, mode, channels):
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    Image.fromarray(np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=-1)).convert(mode).save(path)
    pixels = read_picture(path, "", 2).pixels
    assert pixels.shape == (channels, 5, 12)
    if mode in ("RGB", "RGBA"):
        assert np.array_equal(pixels, np.stack([RAMP, RAMP[::-1], RAMP // 2]))


def test_a_photo_is_turned_as_its_camera_was(tmp_path):
    image = Image.fromarray(RAMP)
    exif = image.getexif()
    exif[0x0112] = 6  # the top of the scene is at the right
    image.save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "photo.png", "", 2).pixels[0], np.rot90(RAMP, -1))


def test_pages_of_a_tiff_are_slices(tmp_path):
    pages = [Image.fromarray(RAMP + k) for k in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    assert np.array_equal(read_picture(tmp_path / "stack.tif", "", 3).pixels[0], np.stack([RAMP + k for k in range(3)]))
    with pytest.raises(DataError, match="Expected 2 axes .* found 3, of lengths 3 × 5 × 12"):
        read_picture(tmp_path / "stack.tif", "", 2)


def test_volumes_are_turned_to_one_orientation(tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)  # X, Y, Z in RAS
    affine = np.diag([0.5, 1.0, 2.0, 1.0])
    image = nibabel.Nifti1Image(values, affine)
    nibabel.save(image, tmp_path / "ras.nii.gz")
    turned = image.as_reoriented(nibabel.orientations.axcodes2ornt(("S", "L", "P")).astype(int)[[0, 1, 2]])
    flipped = nibabel.Nifti1Image(values[::-1, ::-1], affine @ np.array([[-1, 0, 0, 1], [0, -1, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]]))
    swapped = nibabel.Nifti1Image(values.transpose(2, 0, 1), affine[:, [2, 0, 1, 3]])
    for name, other in {"turned": turned, "flipped": flipped, "swapped": swapped}.items():
        nibabel.save(other, tmp_path / f"{name}.nii")
    plain = read_picture(tmp_path / "ras.nii.gz", "", 3)
    assert np.array_equal(plain.pixels[0], values.transpose(2, 1, 0))
    assert plain.spacing == (2.0, 1.0, 0.5)
    for name in ("flipped", "swapped", "turned"):
        other = read_picture(tmp_path / f"{name}.nii", "", 3)
        assert np.array_equal(other.pixels, plain.pixels), name
        assert other.spacing == plain.spacing


def rotated(degrees):
    turn = np.deg2rad(degrees)
    return np.array([[np.cos(turn), -np.sin(turn), 0, 0], [np.sin(turn), np.cos(turn), 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_a_slanted_volume_keeps_its_own_axes_nearest_to_the_common_ones(tmp_path):
    """As with nibabel and MONAI: nothing is resampled, so that a mask of the same grid fits, and spacing is that along its own axes."""
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    for degrees, expected in ((20, values), (110, values.transpose(1, 0, 2)[::-1])):
        nibabel.save(nibabel.Nifti1Image(values, rotated(degrees) @ np.diag([0.5, 1.0, 2.0, 1.0])), tmp_path / "slanted.nii")
        picture = read_picture(tmp_path / "slanted.nii", "", 3)
        assert np.array_equal(picture.pixels[0], expected.transpose(2, 1, 0)), degrees
        assert picture.spacing == pytest.approx((2.0, 1.0, 0.5) if degrees == 20 else (2.0, 0.5, 1.0))


def test_sheared_axes_are_refused_by_name(tmp_path):
    tilted = np.array([[1, 0, 0, 0], [0, 1, np.tan(np.deg2rad(15)), 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.int16), tilted), tmp_path / "tilted.nii")
    with pytest.raises(DataError, match=r"right angles in .*tilted.nii, found two that are 15° off, as of a tilted gantry. Resample it"):
        read_picture(tmp_path / "tilted.nii", "", 3)


def test_stored_scaling_is_applied(tmp_path):
    image = nibabel.Nifti1Image(np.arange(8, dtype=np.int16).reshape(2, 2, 2), np.eye(4))
    image.header.set_slope_inter(2.0, -1000.0)
    nibabel.save(image, tmp_path / "ct.nii")
    assert read_picture(tmp_path / "ct.nii", "", 3).pixels.ravel()[:2].tolist() == [-1000.0, -992.0]


def test_a_series_of_volumes_is_no_volume_unless_there_is_one(tmp_path):
    values = np.zeros((4, 3, 2, 6), np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "fmri.nii.gz")
    nibabel.save(nibabel.Nifti1Image(values[..., :1], np.eye(4)), tmp_path / "one.nii.gz")
    with pytest.raises(DataError, match=r"Expected 3 axes .*fmri.nii.gz, found 4, of lengths 4 × 3 × 2 × 6. Take one of its volumes"):
        read_picture(tmp_path / "fmri.nii.gz", "", 3)
    assert read_picture(tmp_path / "one.nii.gz", "", 3).pixels.shape == (1, 2, 3, 4)


def test_arrays_by_name_and_number(tmp_path):
    gray, colour = np.arange(2 * 5 * 7, dtype=np.uint8).reshape(2, 5, 7), np.zeros((2, 5, 7, 3), np.uint8)
    colour[1, ..., 2] = 9
    np.savez_compressed(tmp_path / "a.npz", gray=gray, colour=colour, volume=gray.astype(np.float64))
    assert array_names(tmp_path / "a.npz") == {"gray": (2, 5, 7), "colour": (2, 5, 7, 3), "volume": (2, 5, 7)}
    assert np.array_equal(read_picture(tmp_path / "a.npz", "gray[1]", 2).pixels, gray[1:])
    assert read_picture(tmp_path / "a.npz", "colour[1]", 2).pixels.max(axis=(1, 2)).tolist() == [0, 0, 9]
    assert read_picture(tmp_path / "a.npz", "volume", 3).pixels.shape == (1, 2, 5, 7)
    assert array_of(tmp_path / "a.npz", "gray") is array_of(tmp_path / "a.npz", "gray")


def test_threads_that_decode_at_once_read_an_array_once(tmp_path):
    """Python 3.11 takes the header of an array for damaged where two threads parse one at the same time."""
    np.savez(tmp_path / "a.npz", gray=np.zeros((200, 64, 64)))
    start = Barrier(8)

    def read(_):
        start.wait()
        return id(array_of(tmp_path / "a.npz", "gray"))

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(read, range(8)))) == 1


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ("gray[2]", "an entry of the 2 of 'gray' .* found number 2"),
        ("other[0]", r"the array 'other' .* found \['gray'\]"),
        ("", "which array of .* found ''"),
    ],
)
def test_arrays_that_are_not_there(tmp_path, part, match):
    np.savez(tmp_path / "a.npz", gray=np.zeros((2, 5, 7)))
    with pytest.raises(DataError, match=match):
        read_picture(tmp_path / "a.npz", part, 2)


def test_pickled_arrays_are_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="Python objects in 'labels'"):
        array_names(tmp_path / "a.npz")
    with pytest.raises(DataError, match="allow_pickle=False"):
        array_of(tmp_path / "a.npz", "labels")


def test_videos_give_their_frames(tmp_path):
    frames = np.stack([np.full((16, 32), 40 * k, np.uint8) for k in range(4)])
    write_video(tmp_path / "gray.mkv", frames)
    assert np.array_equal(read_picture(tmp_path / "gray.mkv", "", 3).pixels, frames[None])
    colour = np.stack([frames, frames, 0 * frames], axis=-1)
    write_video(tmp_path / "colour.mp4", colour, "yuv420p")
    pixels = read_picture(tmp_path / "colour.mp4", "", 3).pixels
    assert pixels.shape == (3, 4, 16, 32)
    assert np.abs(pixels[0].mean(axis=(1, 2)) - [0, 40, 80, 120]).max() < 6


def damaged(tmp_path, ending):
    """A file of the kind with its second half cut off, and the axes it had."""
    path = tmp_path / f"image.{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (6, 64, 64), dtype=np.uint8)
    if ending == "npz":
        np.savez_compressed(path, images=noise)
    elif ending in ("nii", "nii.gz"):
        nibabel.save(nibabel.Nifti1Image(noise.astype(np.int16), np.eye(4)), path)
    elif ending in ("mp4", "avi"):
        write_video(path, np.stack([noise] * 3, axis=-1), "yuv420p")
    else:
        Image.fromarray(noise[0]).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path, 3 if ending in ("nii", "nii.gz", "mp4", "avi") else 2


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "nii", "nii.gz", "npz", "mp4", "avi"])
def test_truncated_files_are_named(tmp_path, ending):
    path, n_axes = damaged(tmp_path, ending)
    with pytest.raises(DataError, match=rf"image\.{ending}.* found .*damaged or truncated file"):
        read_picture(path, "images[0]" if ending == "npz" else "", n_axes)


def test_other_bytes_under_the_name_of_an_image(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DataError, match="a.png, found a damaged"):
        read_picture(tmp_path / "a.png", "", 2)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"no volume"))
    with pytest.raises(DataError, match=r"a\.nii\.gz, found a damaged"):
        read_picture(tmp_path / "a.nii.gz", "", 3)
    (tmp_path / "a.txt").write_text("no image")
    with pytest.raises(DataError, match=r"Expected an image ending in \.png, .*\.dcm.*, found .*a\.txt"):
        read_picture(tmp_path / "a.txt", "", 2)
    with pytest.raises(DataError, match="found nothing. Where files were moved"):
        read_picture(tmp_path / "gone.png", "", 2)


def test_values_that_are_no_numbers_are_refused(tmp_path):
    values = np.ones((2, 3, 4), np.float32)
    values[0, 0, 0] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "nan.nii")
    with pytest.raises(DataError, match="finite values in .*nan.nii, found 1 that are NaN"):
        read_picture(tmp_path / "nan.nii", "", 3)
    np.savez(tmp_path / "text.npz", images=np.array([[["a"]]]))
    with pytest.raises(DataError, match="Expected numbers in .*text.npz"):
        read_picture(tmp_path / "text.npz", "images[0]", 2)


@pytest.mark.parametrize(("name", "package"), [("film.mp4", "av"), ("slice.dcm", "pydicom"), ("photo.png", "PIL.Image")])
def test_a_missing_package_names_the_extra(tmp_path, monkeypatch, name, package):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package} is needed to read .*pip install 'graphssl\[imaging\]'"):
        read_picture(tmp_path / name, "", 2)


def test_the_hash_is_that_of_the_bytes(tmp_path, write_dicom):
    for name in "ab":
        Image.fromarray(RAMP).save(tmp_path / f"{name}.png")
    assert content_hash(tmp_path / "a.png") == content_hash(tmp_path / "b.png")
    one, other = (write_dicom(tmp_path / name, np.zeros((3, 4, 5)) + k, name=name) for k, name in enumerate(("one", "other")))
    renamed = write_dicom(tmp_path / "renamed", np.zeros((3, 4, 5)), name="other")
    assert content_hash(one, "1.2.3") == content_hash(renamed, "1.2.3") != content_hash(other, "1.2.3")


def test_a_playlist_called_a_clip_reads_no_other_file(tmp_path):
    """FFmpeg goes by content: a list of files would be played, and the hash of the clip would be that of the list."""
    frames = np.stack([RAMP[:4, :12]] * 4).repeat(4, axis=1).repeat(2, axis=2)
    write_video(tmp_path / "other.mkv", frames)
    assert read_picture(tmp_path / "other.mkv", "", 3).pixels.shape[1] == 4
    (tmp_path / "clip.avi").write_text("ffconcat version 1.0\nfile other.mkv\n")
    with pytest.raises(DataError, match="whole image in .*clip.avi"):
        read_picture(tmp_path / "clip.avi", "", 3)
