"""Pickled NumPy files: what is read is what was written, and nothing in them is ever run."""

import collections
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from graphssl.datasets.pickled import is_pickled, read_pickled
from graphssl.errors import DataError


def save(path, value):
    np.save(path, np.array(value, dtype=object), allow_pickle=True)
    return path


def write(path, stream):
    """A `.npy` header for one object, and any pickle behind it."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": (), "fortran_order": False, "descr": "|O"})
    path.write_bytes(file.getvalue() + stream)
    return path


VALUES = {
    "corr": np.random.default_rng(0).normal(size=(3, 4, 4)),
    "label": np.array([0, 1, 1]),
    "names": np.array(["NYU", "PITT"]),
    "big": np.arange(6, dtype=">i4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "nested": [{"x": np.float32(2.5), "y": (1, "two", None, True, b"bytes", {3, 4})}],
}


def same(found, expected):
    """Whether two objects are one in types and values, all the way down."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, np.ndarray):
        return found.dtype == expected.dtype and np.array_equal(found, expected)
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


def test_a_dictionary_is_read_as_it_was_written(tmp_path):
    assert same(read_pickled(save(tmp_path / "a.npy", VALUES)), VALUES)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol(tmp_path, protocol):
    content = np.empty((), dtype=object)
    content[()] = VALUES
    assert same(read_pickled(write(tmp_path / "a.npy", pickle.dumps(content, protocol=protocol))), VALUES)


def test_names_of_older_numpy(tmp_path):
    stream = pickle.dumps(VALUES["label"], protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert same(read_pickled(write(tmp_path / "a.npy", stream)), VALUES["label"])


def test_an_ordered_dictionary_and_a_list_of_dictionaries(tmp_path):
    assert same(read_pickled(save(tmp_path / "a.npy", collections.OrderedDict(a=1))), {"a": 1})
    stored = np.empty(2, dtype=object)
    stored[:] = [{"x": np.eye(2)}, {"x": np.ones(3)}]
    np.save(tmp_path / "b.npy", stored, allow_pickle=True)
    assert same(read_pickled(tmp_path / "b.npy").tolist(), stored.tolist())


@settings(max_examples=60, deadline=None)
@given(value=arrays(scalar_dtypes().filter(lambda dtype: dtype.kind in "biuf"), array_shapes(min_dims=1, min_side=0, max_side=4)))
def test_any_numeric_array(tmp_path_factory, value):
    path = save(tmp_path_factory.mktemp("a") / "a.npy", {"x": value})
    found = read_pickled(path)["x"]
    assert (found.dtype, found.shape) == (value.dtype, value.shape)
    assert found.tobytes() == value.tobytes()


def test_plain_numbers_are_not_pickled(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(2))
    assert not is_pickled(tmp_path / "a.npy")
    assert is_pickled(save(tmp_path / "b.npy", {}))
    (tmp_path / "c.npy").write_bytes(b"PK")
    assert not is_pickled(tmp_path / "c.npy")
    assert not is_pickled(tmp_path / "none.npy")
    np.save(tmp_path / "d.npy", np.eye(2).astype(object), allow_pickle=True)
    assert not is_pickled(tmp_path / "d.npy"), "numbers saved as objects are the array of one subject, which is told so where it is read"


# What is refused


def test_a_malicious_file_runs_nothing(tmp_path, write_malicious):
    victim = tmp_path / "victim"
    write_malicious(tmp_path / "a.npy", victim)
    with pytest.raises(DataError, match=r"found pathlib\S*\.\w+, which is never constructed.*numpy\.savez\('out\.npz'.*Then give out\.npz"):
        read_pickled(tmp_path / "a.npy")
    assert not victim.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("collections", "defaultdict"),
        ("pandas", "DataFrame"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("copyreg", "_reconstructor"),
    ],
)
@pytest.mark.parametrize("opcode", ["global", "stack", "inst"])
def test_any_other_name_is_refused_before_it_is_looked_up(tmp_path, module, name, opcode):
    call = {
        "global": b"c" + f"{module}\n{name}\n".encode() + b"(Vx\ntR.",
        "stack": b"\x80\x04"
        + pickle.SHORT_BINUNICODE
        + bytes([len(module)])
        + module.encode()
        + b"\x8c"
        + bytes([len(name)])
        + name.encode()
        + b"\x93.",
        "inst": b"(Vx\ni" + f"{module}\n{name}\n".encode() + b".",
    }[opcode]
    with pytest.raises(DataError, match=f"found {module}.{name}, which is never constructed"):
        read_pickled(write(tmp_path / "a.npy", call))


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (Path("x"), r"pathlib"),
        (np.array([(1, 2.0)], dtype=[("a", int), ("b", float)]), "arrays of"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "arrays of the type"),
        (np.dtype("f8"), "a type in place of a value"),
        (np.ndarray, "a type in place of a value"),
    ],
)
def test_other_objects(tmp_path, value, what):
    with pytest.raises(DataError, match=f"found {what}.*, which is never constructed"):
        read_pickled(write(tmp_path / "a.npy", pickle.dumps({"x": value})))


def test_references_out_of_the_file(tmp_path):
    with pytest.raises(DataError, match="found a reference to something outside of the file"):
        read_pickled(write(tmp_path / "a.npy", b"Pelsewhere\n."))


def test_calls_with_arguments_that_numpy_would_not_give(tmp_path):
    encode = b"c_codecs\nencode\n(Vx\nVrot13\ntR."
    scalar = b"cnumpy.core.multiarray\nscalar\n(Vx\nVy\ntR."
    state = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR(I1\ntb."
    for stream, what in (
        (encode, "an unknown encoding"),
        (scalar, "a number of an unknown type"),
        (state, "an array that is described in an unknown way"),
    ):
        with pytest.raises(DataError, match=f"found {what}"):
            read_pickled(write(tmp_path / "a.npy", stream))


def test_damaged_files(tmp_path):
    path = save(tmp_path / "a.npy", VALUES)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="Expected a pickled .npy file at .*, found a damaged one"):
        read_pickled(path)
    ring: list = []
    ring.append(ring)
    with pytest.raises(DataError, match="found a damaged one"):
        read_pickled(write(tmp_path / "b.npy", pickle.dumps(ring)))
