"""Every benchmark, each in an interpreter of its own, and the table of their records.

    python benchmarks [--smoke] [--repeats 3] [NAME ...]

What a file finds takes the place of what is saved of it in benchmarks/records.json, and the table of docs/reference/performance.md is made anew; a
file that fails leaves its rows as they were. With --smoke sizes are tiny, as many files run at once as there are cores, and nothing is written.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from os import cpu_count
from typing import Any

from measure.machine import circumstances
from measure.table import FOLDER, NAMES, load, save, text_of


def main() -> int:
    parser = argparse.ArgumentParser(prog="python benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"files, of {', '.join(NAMES)}; all by default")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, nothing written")
    parser.add_argument("--repeats", type=int, help="pairs of measurements (3; 1 with --smoke)")
    options = parser.parse_args()
    words = [*(["--smoke"] if options.smoke else []), *(["--repeats", str(options.repeats)] if options.repeats else [])]
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"expected names of {', '.join(NAMES)}; found {', '.join(unknown)}")
    names = options.names or NAMES
    found: dict[str, dict[str, Any] | None] = {}
    with ThreadPoolExecutor(cpu_count() if options.smoke else 1) as pool:
        for name, run in zip(names, pool.map(partial(run_file, words=words), names), strict=True):
            found[name] = run
            if run and not options.smoke:
                save({**load(), name: run})
    if options.smoke:
        print(text_of({name: run for name, run in found.items() if run}))
    failed = [name for name, run in found.items() if run is None]
    print(f"{len(names) - len(failed)} of {len(names)} benchmarks ran" + (f"; these failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run_file(name: str, words: Sequence[str]) -> dict[str, Any] | None:
    """Its records and what they were found with; None where it fails."""
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--json", *words]
    lines, where = [], circumstances()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            lines.append(line)
            if not line.startswith("{"):
                print(f"{name}: {line}", end="", flush=True)
    if process.returncode:
        print(f"{name}: ended with {process.returncode}", file=sys.stderr)
        return None
    return {**where, "records": json.loads(lines[-1])["parts"]}


if __name__ == "__main__":
    sys.exit(main())
