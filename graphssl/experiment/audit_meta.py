"""Checks of a meta-training: the data of sources and targets, and that no subject of a target is in a source."""

import itertools
from pathlib import Path
from typing import Any

from graphssl.experiment.audit_check import NotCheckedError, expect_none
from graphssl.experiment.audit_configuration import check_readable
from graphssl.experiment.meta import shared_with
from graphssl.experiment.meta_config import instantiate_meta, meta_parser
from graphssl.training.meta import Source


class MetaAudit:
    """The cohorts of a meta-training."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder, self.manifest = folder, manifest
        self.loaded: tuple[list[Source], list[Source]] | None = None

    def read_data(self) -> str:
        """Load sources and targets and compare their hashes."""
        check_readable(self.folder, adapter=True)
        parser = meta_parser()
        experiment, _ = instantiate_meta(parser, parser.parse_args(["--config", str(self.folder / "config.yaml")]))
        datasets = [*experiment.sources, *filter(None, [experiment.target])]
        absent = [place for dataset in datasets for place in dataset.cohort.absent()]
        if absent:
            raise NotCheckedError(f"there is nothing at {', '.join(absent)}")
        sources, targets = experiment.load_sources(), experiment.load_targets()
        told = {(one["source"], one["hash"]) for one in (*self.manifest["sources"], *self.manifest["targets"])}
        here = {(one.name, one.cohort.hash) for one in (*sources, *targets)}
        expect_none([f"{name!r} has the hash {hash_}, which the manifest does not know" for name, hash_ in sorted(here - told)])
        expect_none([f"the manifest knows {name!r} with the hash {hash_}, which is not there" for name, hash_ in sorted(told - here)])
        self.loaded = sources, targets
        return f"{len(sources)} sources, {len(targets)} targets, {len(here)} hashes"

    def apart(self) -> str:
        """Whether a subject who was adapted to was meta-trained on, under any id."""
        if self.loaded is None:
            raise NotCheckedError("the data are not here")
        sources, targets = self.loaded
        if not targets:
            raise NotCheckedError("there is no target")
        for target, source in itertools.product(targets, sources):
            expect_none(
                [
                    f"{subject!r} of the target {target.name!r}, or the family, is in the source {source.name!r}"
                    for subject in shared_with(target, source)
                ]
            )
        return f"{sum(len(target.labels) for target in targets)} subjects of targets, none in {len(sources)} sources"
