"""The errors graphssl raises on purpose.

Each message says what was expected, what was found and what to do. Everything that is the caller's to mend derives from
[`InputError`][graphssl.errors.InputError]; the command line answers those with exit code 2 and one sentence, without a traceback.
"""


class GraphSSLError(Exception):
    """Any error raised by graphssl on purpose."""


class InputError(GraphSSLError, ValueError):
    """The data, the arguments or the configuration do not fit; nothing was written."""


class DataError(InputError):
    """A file or an array cannot be read as what it should be."""


class SchemaError(InputError):
    """A table's columns, kinds or ids do not fit the schema."""


class AtlasError(InputError):
    """Regions do not fit the atlas: other labels, other count, other hash."""


class LeakageError(InputError):
    """The same subject, family or held-out site stands on both sides of a split."""


class ConfigError(InputError):
    """A configuration has an unknown or impossible entry."""


class ChoiceError(ConfigError):
    """A source holds several things, or leaves one open, and one has to be named."""


class CheckpointError(InputError):
    """A saved model or checkpoint is absent, truncated, unsafe or made for something else."""


class RunFolderError(InputError):
    """A run folder holds another run, or lacks what is asked of it."""


class StorageError(InputError):
    """A disk is full or must not be written to; what stood there and what was finished before are as they were."""


class MissingExtraError(GraphSSLError, ImportError):
    """An optional package is needed and not installed; the message gives the install line."""
