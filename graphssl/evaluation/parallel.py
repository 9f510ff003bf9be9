"""Parts of a work in processes side by side: one thread each, and a bar of those that are done."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from graphssl.progress import progress_shown


@contextmanager
def one_thread(active: bool = True) -> Any:
    """One torch thread inside, so that processes side by side do not fight for cores."""
    before = torch.get_num_threads()
    if active:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def with_bar(parts: Iterable[Any], total: int, label: str, progress: bool) -> Iterator[Any]:
    """Parts of a work as they come, with a bar on stderr where progress is to be shown; loops within them then show none of their own."""
    if not progress:
        yield from parts
        return
    from rich.console import Console
    from rich.progress import track

    with progress_shown(False):
        yield from track(parts, description=label, total=total, console=Console(stderr=True))
