"""File names of toolboxes that do not follow BIDS: what they call a subject's file says what it holds.

Sources: the toolboxes' own output (CONN: `results/firstlevel/*/resultsROI_Subject*_Condition*.mat`; DPABI `y_ExtractROISignal`; GRETNA
`gretna_RUN_StaticFC`), population-gcn (Parisot et al. 2018, doi:10.1016/j.media.2018.06.001), MRtrix3 `tck2connectome`
(https://mrtrix.readthedocs.io/en/latest/reference/commands/tck2connectome.html), and BrainNet Viewer (Xia et al. 2013).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from graphssl.datasets.bids import parse_name
from graphssl.datasets.listing import Listing
from graphssl.datasets.scan_files import Content, Scan


@dataclass(frozen=True)
class Convention:
    """How a tool names one kind of file.

    Args:
        pattern: Fits the relative name of a file; its groups are `subject` (none where a file holds several), `atlas` and entities such as `cond`.
        content: What the file holds.
        pipeline: The tool.
    """

    pattern: re.Pattern[str]
    content: Content
    pipeline: str

    def scan(self, listing: Listing, name: str) -> Scan | None:
        """The file as a scan, or None where its name does not fit. What says what a file is may be the very folder that was given."""
        found = self.pattern.search(f"{listing.called}/{name}")
        if found is None:
            return None
        named = parse_name(name)
        entities = {} if named is None else {key: value for key, value in named.entities.items() if key not in ("sub", "atlas", "seg")}
        groups = {**entities, **{key: value for key, value in found.groupdict().items() if value is not None}}
        return Scan(listing.root / name, groups.pop("subject", ""), self.content, groups.pop("atlas", ""), groups, self.pipeline)


def find_by(conventions: Sequence[Convention], listing: Listing) -> Iterator[Scan]:
    """Files whose names fit one of the conventions, one after the other; the first that fits counts."""
    for name in listing.names:
        scan = next((scan for convention in conventions if (scan := convention.scan(listing, name)) is not None), None)
        if scan is not None:
            yield scan


def _convention(pattern: str, content: Content, pipeline: str) -> Convention:
    return Convention(re.compile(r"(?:^|/)" + pattern + "$", re.IGNORECASE), content, pipeline)


# Their mean is not the connectivity of the scan, and single ones are no scans.
_WINDOWS = "sliding windows of a scan; give GretnaTimeCourse, of which windows are cut in training, or GretnaSFCMatrixR"
CONN = (
    _convention(
        r"resultsROI_(?P<subject>Subject\d+)_Condition(?P<cond>\d+)\.mat", Content("resultsROI_Subject (Z)", "correlation", True, "Z"), "CONN"
    ),
    # Copies of single subjects, called by their ids.
    _convention(r"(?P<subject>[^/]+)_resultsROI_Condition(?P<cond>\d+)\.mat", Content("resultsROI (Z)", "correlation", True, "Z", 1), "CONN"),
    # All subjects; names of theirs are given to each matrix.
    _convention(r"resultsROI_Condition(?P<cond>\d+)\.mat", Content("resultsROI_Condition (Z)", "correlation", True, "Z", 2), "CONN"),
)
DPABI = tuple(
    _convention(
        rf"{stem}_(?!FisherZ_|ROI)(?P<subject>[^/]+)\.{ending}",
        replace(content, words=f"{stem}.{ending}", variable=stem if ending == "mat" else None, rank=2 * rank + late),
        "DPABI",
    )
    for rank, (stem, content) in enumerate(
        (
            ("ROISignals", Content("", "timeseries", False)),
            ("ROICorrelation", Content("", "correlation", False)),
            ("ROICorrelation_FisherZ", Content("", "correlation", True)),
        )
    )
    for late, ending in enumerate(("mat", "txt"))
)
GRETNA = (
    _convention(r"GretnaTimeCourse/(?P<subject>[^/]+)\.txt", Content("GretnaTimeCourse", "timeseries", False, rank=0), "GRETNA"),
    _convention(r"GretnaSFCMatrixR/r(?P<subject>[^/]+)\.txt", Content("GretnaSFCMatrixR", "correlation", False, rank=1), "GRETNA"),
    _convention(r"GretnaSFCMatrixZ/z(?P<subject>[^/]+)\.txt", Content("GretnaSFCMatrixZ", "correlation", True, rank=2), "GRETNA"),
    *(
        _convention(rf"GretnaDFCMatrix{kind}/{letter}(?P<subject>[^/]+)\.mat", Content(f"GretnaDFCMatrix{kind}", no_scan=_WINDOWS), "GRETNA")
        for kind, letter in (("R", "r"), ("Z", "z"))
    ),
)
POPULATION_GCN = (
    # Some copies hold r and some Fisher z: the diagonal tells.
    _convention(
        r"(?P<subject>[^/]+)_(?P<atlas>[^_/]+)_partial_correlation\.mat",
        Content("partial_correlation.mat", "partial correlation", None, "connectivity", 1),
        "population-gcn",
    ),
    _convention(
        r"(?P<subject>[^/]+)_(?P<atlas>[^_/]+)_correlation\.mat", Content("correlation.mat", "correlation", None, "connectivity", 0), "population-gcn"
    ),
)
HCP = tuple(
    _convention(rf"{subject}\.{content.words.replace('.', '[.]')}", content, "")
    for content in (Content("ptseries.nii", "timeseries", False, rank=0), Content("pconn.nii", "correlation", None, rank=1))
    for subject in (r"(?P<subject>\d{6})[._](?P<run>[^/]+)", r"(?P<subject>sub-[^_/.]+)[^/]*", r"(?P<subject>[^/]+)")
)
MRTRIX = (_convention(r"(?P<subject>[^/]+?)[._-]connectome\.csv", Content("connectome.csv", "streamline count", False), "MRtrix3"),)
GRAPHS = tuple(
    _convention(rf"{subject}\.{ending}", Content(ending, rank=rank), "")
    for rank, ending in enumerate(("graphml", "edgelist", "ssv"))
    for subject in (r"(?P<subject>sub-[^_/.]+)(?:_[^/]*)?", r"(?P<subject>[^/]+)")
)
BRAINNET_VIEWER = (_convention(r"(?P<subject>[^/]+)\.edge", Content("edge"), "BrainNet Viewer"),)
