"""What decides numbers, in plain values that can be hashed."""

from collections.abc import Mapping
from typing import Any


def described(value: Any) -> Any:
    """What decides a method's numbers, as plain values in a fixed order: estimators, encoders and objectives by name and arguments."""
    if isinstance(value, type):
        return value.__name__
    if hasattr(value, "arguments"):
        return [type(value).__name__, described(value.arguments())]
    if hasattr(value, "get_params"):
        return [type(value).__name__, described(value.get_params(deep=False))]
    if isinstance(value, Mapping):
        return [(str(name), described(value[name])) for name in sorted(value, key=str)]
    if isinstance(value, (list, tuple)):
        return [described(entry) for entry in value]
    return value
