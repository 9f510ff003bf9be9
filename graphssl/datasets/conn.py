"""First-level results of CONN: a file a subject and condition, or a file a condition with all subjects one behind the other.

Source: the toolbox's own output, `results/firstlevel/*/resultsROI_Subject*_Condition*.mat` and `resultsROI_Condition*.mat`. `Z` is
`[sources, targets]` in the first and `[sources, targets, subjects]` in the second, subjects in the order of the project.
"""

from collections.abc import Iterator
from dataclasses import replace

from graphssl.datasets.conventions import CONN, find_by
from graphssl.datasets.listing import Listing
from graphssl.datasets.matlab import matlab_variables
from graphssl.datasets.scan_files import Scan


def find_conn(listing: Listing) -> Iterator[Scan]:
    """Scans of a listing, one after the other; those in a file of all subjects are called `Subject001` and so on, as CONN calls them."""
    for scan in find_by(CONN, listing):
        yield from [scan] if scan.subject else _pages(scan)


def _pages(scan: Scan) -> Iterator[Scan]:
    shape = matlab_variables(scan.path).get("Z", ())
    for number in range(shape[2] if len(shape) > 2 else 1):
        yield replace(scan, subject=f"Subject{number + 1:03d}", page=number)
