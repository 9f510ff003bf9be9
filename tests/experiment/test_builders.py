"""Of the builders of a configuration one is given, or none."""

import pytest

from graphssl.data import ColumnTokenizer, ImageBuilder
from graphssl.errors import ConfigError
from graphssl.experiment.builders import BUILDERS, one_builder


def test_the_one_that_is_given():
    columns = ColumnTokenizer()
    assert one_builder(**{**dict.fromkeys(BUILDERS), "columns": columns}) is columns
    assert one_builder(**dict.fromkeys(BUILDERS)) is None


def test_several_are_refused():
    with pytest.raises(ConfigError, match="Expected one of columns, timeline, images, for a run reads one kind of batch; found columns and images"):
        one_builder(columns=ColumnTokenizer(), timeline=None, images=ImageBuilder())
