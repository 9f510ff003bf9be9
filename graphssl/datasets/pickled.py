"""Pickled NumPy files, read without ever running what they hold.

`numpy.save` pickles dictionaries and lists, and unpickling the ordinary way calls whatever function the file names. Here a file can only make plain
containers, numbers, text and numeric arrays; everything else is refused before it is looked up. Not even NumPy's own constructors are called with
what the file gives them: arrays and types are first kept as descriptions, and made at the end from checked parts.

Source: the Python documentation on restricting globals (https://docs.python.org/3/library/pickle.html#restricting-globals).
"""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from graphssl.errors import DataError


def is_pickled(path: Path) -> bool:
    """Whether a `.npy` file holds a pickled container instead of an array."""
    try:
        with path.open("rb") as file:
            shape, dtype = _header(file)
            return dtype.hasobject and len(shape) < 2  # a table of objects is the array of one subject, saved as no numbers
    except Exception:  # noqa: BLE001 - damaged bytes make the reader of headers fail in any way
        return False


def read_pickled(path: Path) -> Any:
    """Read a `.npy` file of pickled plain containers: dictionaries, lists, tuples, sets, text, numbers and numeric arrays.

    Args:
        path: The file.

    Returns:
        The object; the array of zero dimensions that `numpy.save` wraps around a dictionary is taken off.

    Raises:
        DataError: If the file names anything else (says how to convert it), or is damaged.
    """
    with path.open("rb") as file:
        try:
            _header(file)
            value = _made(_Unpickler(file, encoding="latin1").load())
        except _RefusedError as error:
            raise DataError(
                f"Expected plain containers and arrays in {path}, found {error}, which is never constructed: unpickling runs whatever a file says. "
                f"If you trust the file, convert it where its packages are: {_CONVERSION}"
            ) from error
        except Exception as error:  # damaged bytes make the reader fail in any way
            raise DataError(f"Expected a pickled .npy file at {path}, found a damaged one ({error}). Copy or make it again.") from error
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


_CONVERSION = (
    "d = numpy.load('in.npy', allow_pickle=True).item(); numpy.savez('out.npz', **{key: numpy.asarray(value) for key, value in d.items()}). "
    "Then give out.npz."
)


class _RefusedError(Exception):
    pass


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[(_MODULES.get(module, module), name)]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> Any:
        raise _RefusedError("a reference to something outside of the file")


class _Type:
    """What a file says of a type of numbers."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or not code or code[0] not in _CODES:
            raise _RefusedError(f"arrays of the type {code!r}")
        self.code, self.order = code, "="

    def __setstate__(self, state: Any) -> None:
        # (version, byte order, subarray, names, fields, …): structured types are none of ours.
        if not isinstance(state, tuple) or state[1] not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise _RefusedError("arrays of a structured type")
        self.order = state[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype = np.dtype(self.code)
        return dtype if self.order in ("=", "|") else dtype.newbyteorder("<" if self.order == "<" else ">")


class _Array:
    """What a file says of an array."""

    def __init__(self, kind: Any = None, shape: Any = (0,), code: Any = b"b") -> None:
        self.state: tuple[Any, ...] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Type):
            raise _RefusedError("an array that is described in an unknown way")
        self.state = state

    def made(self) -> np.ndarray[Any, Any]:
        if self.state is None:
            return np.zeros(0)
        _, shape, kind, is_fortran, content = self.state
        order: Any = "F" if is_fortran else "C"
        if kind.dtype.hasobject:
            array = np.empty(len(content), dtype=object)
            array[:] = [_made(entry) for entry in content]
            return array.reshape(shape, order=order)
        content = content.encode("latin1") if isinstance(content, str) else content
        return np.frombuffer(content, dtype=kind.dtype).reshape(shape, order=order)


class _Kind:
    """Stands for the class of arrays, which is named in a file but never called."""


def _scalar(kind: Any, content: Any = None) -> Any:
    if not isinstance(kind, _Type) or kind.dtype.hasobject:
        raise _RefusedError("a number of an unknown type")
    content = content.encode("latin1") if isinstance(content, str) else content
    return np.frombuffer(content, dtype=kind.dtype, count=1)[0]


def _from_buffer(content: Any, kind: Any, shape: Any, order: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", bytes(content)))
    return array


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _RefusedError("an unknown encoding of bytes")
    return text.encode("latin1")


def _made(value: Any) -> Any:
    """The object with every description of an array replaced by the array."""
    if isinstance(value, _Array):
        return value.made()
    if isinstance(value, dict):
        return {key: _made(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_made(entry) for entry in value)
    if isinstance(value, _Type | type):
        raise _RefusedError("a type in place of a value")
    return value


def _header(file: Any) -> tuple[Any, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(file)
    return shape, dtype


# Booleans, integers, floats, text and objects; the last hold what the file may hold anywhere.
_CODES = "?bBiufcSUOhHlLqQdefg"
_MODULES = {"numpy.core.multiarray": "numpy._core.multiarray", "numpy.core.numeric": "numpy._core.numeric", "__builtin__": "builtins"}
_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Kind,
    ("numpy", "dtype"): _Type,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _latin1,
    ("collections", "OrderedDict"): dict,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "complex"): complex,
    ("builtins", "bytearray"): bytearray,
}
