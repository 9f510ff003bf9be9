"""A bar of the meta-epochs that are done."""

from collections.abc import Sequence

from rich.console import Console
from rich.progress import Progress, TextColumn

from graphssl.training.meta.settings import MetaSettings


class EpochBar:
    """A bar of meta-epochs on stderr, with the loss of each source."""

    def __init__(self, settings: MetaSettings, names: Sequence[str], *, shown: bool = True) -> None:
        self.settings, self.names, self.shown = settings, names, settings.progress and shown
        self.bar = Progress(*Progress.get_default_columns(), TextColumn("{task.fields[note]}"), console=Console(stderr=True))

    def __enter__(self) -> "EpochBar":
        if self.shown:
            self.bar.start()
            self.task = self.bar.add_task("meta-training", total=self.settings.max_epochs, note="")
        return self

    def __exit__(self, *error: object) -> None:
        if self.shown:
            self.bar.stop()

    def update(self, row: dict[str, float]) -> None:
        """Show an epoch."""
        if self.shown:
            note = ", ".join(f"{name} {row[f'loss {name}']:.3f}" for name in self.names)
            self.bar.update(self.task, completed=int(row["epoch"]) + 1, note=f"loss {note}")
