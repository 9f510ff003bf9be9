"""What a piece of work costs, measured in a process of its own that was forked after the input was made."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def measure(function: Callable[[], Any]) -> tuple[Any, float, float]:
    """Result, CPU seconds, and MiB at the peak on top of what the process started with.

    A process that has run autograd must not be forked: measure first, compare afterwards.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_call, args=(function, there))
    process.start()
    there.close()
    answer = here.recv()  # EOFError where the process was killed, for want of memory as a rule
    process.join()
    return answer


def _call(function: Callable[[], Any], answer: Connection) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    result = function()
    seconds = time.process_time() - start
    answer.send((result, seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))
