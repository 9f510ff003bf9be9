"""Progress with the time that is left, of loops that turn out to be long; nothing where nobody asked to see it, and nothing in a log file."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Timer
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")

_asked: ContextVar[bool] = ContextVar("asked", default=False)
_drawing: ContextVar[bool] = ContextVar("drawing", default=False)


@contextmanager
def progress_shown(shown: bool = True) -> Iterator[None]:
    """Whether loops that are `tracked` show a bar within; they do not otherwise.

    Args:
        shown: Whether they do.
    """
    before = _asked.set(shown)
    try:
        yield
    finally:
        _asked.reset(before)


def tracked(
    items: Iterable[Item], label: str, total: int | None = None, *, size: Callable[[Item], int] | None = None, after: float = 1.0
) -> Iterator[Item]:
    """The items, with a bar on the terminal once they have taken a while; loops within show none of their own.

    Args:
        items: What is gone through.
        label: What is done, such as `"Reading scans"`.
        total: How many there are; their length where they have one.
        size: For how many of the total an item stands; for one when left out.
        after: Seconds after which the bar appears.
    """
    if not _asked.get() or _drawing.get():
        yield from items
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from items
        return
    n = total if total is not None else len(items) if isinstance(items, Sized) else None
    bar = Progress(console=console, transient=True)
    task = bar.add_task(label, total=n)
    _drawing.set(True)
    try:
        with _started(bar, after):
            for item in items:
                yield item
                bar.advance(task, 1 if size is None else size(item))
    finally:
        _drawing.set(False)


@contextmanager
def _started(bar: "Progress", after: float) -> Iterator[None]:
    """A bar that appears after so many seconds, even while the first item takes longer, and is gone at the end."""
    timer = Timer(after, bar.start)
    timer.daemon = True
    if after > 0:
        timer.start()
    else:
        bar.start()
    try:
        yield
    finally:
        timer.cancel()
        if after > 0:
            timer.join()  # or it might appear after it has ended
        bar.stop()
