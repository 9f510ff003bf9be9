"""The one builder that a configuration gives, under one of several keys."""

from graphssl.data.builder import AbstractBuilder
from graphssl.errors import ConfigError

BUILDERS = ("builder", "columns", "timeline", "events", "population", "images", "modalities")


def one_builder(**given: AbstractBuilder | None) -> AbstractBuilder | None:
    """The one that is given of the builders of a configuration, by key; None where none is.

    Raises:
        ConfigError: If several are.
    """
    builders = {key: value for key, value in given.items() if value is not None}
    if len(builders) > 1:
        raise ConfigError(f"Expected one of {', '.join(given)}, for a run reads one kind of batch; found {' and '.join(builders)}. Leave one out.")
    return next(iter(builders.values()), None)
