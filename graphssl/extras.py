"""Optional packages, asked for in one place."""

from importlib import import_module
from types import ModuleType

from graphssl.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say how to install it.

    Args:
        module: Name to import, such as `"dgl"`.
        extra: The extra of `graphssl` that installs it, such as `"dgl"`.
        purpose: What it is needed for, completing "… is needed to …".

    Raises:
        MissingExtraError: If the package is not installed or fails to import.
    """
    try:
        return import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # a package built for another torch fails with the latter two
        raise MissingExtraError(
            f"{module} is needed to {purpose} and could not be imported ({error}). Install it with: pip install 'graphssl[{extra}]'"
        ) from error
