"""Axes of a study: all combinations of their levels, and configurations laid over one another."""

from collections.abc import Iterable, Mapping
from typing import Any


def grid(axes: Mapping[str, Iterable[str]]) -> list[dict[str, str]]:
    """All combinations of levels, the last axis changing first.

    Args:
        axes: Levels by axis.
    """
    found: list[dict[str, str]] = [{}]
    for axis, levels in axes.items():
        found = [{**one, axis: level} for one in found for level in levels]
    return found


def merged(base: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with others laid over it: mappings join, all else is replaced, and so is a class with its arguments by another class.

    Args:
        base: The configuration.
        changes: What is laid over it, one after another.
    """
    found = dict(base)
    for change in changes:
        for key, value in change.items():
            before = found.get(key)
            joins = isinstance(value, Mapping) and isinstance(before, Mapping) and not {"class_path", "adapter", "path"} & set(value)
            found[key] = merged(before, value) if joins else value  # type: ignore[arg-type]
    return found
