"""Settings of a meta-training that cannot be."""

import pytest

from graphssl.errors import ConfigError
from graphssl.training.meta import MetaSettings


def test_numbers_and_devices_that_cannot_be():
    with pytest.raises(ConfigError, match="max_epochs above 0, found 0"):
        MetaSettings(max_epochs=0)
    with pytest.raises(ConfigError, match="accelerator 'auto', 'cpu' or 'gpu', found 'tpu'"):
        MetaSettings(accelerator="tpu")


def test_the_device_that_is_asked_for():
    assert MetaSettings(accelerator="cpu").device == "cpu"
    assert MetaSettings(accelerator="gpu").device == "cuda"
