"""A bar of meta-epochs names each source."""

from graphssl.training.meta import meta_train
from graphssl.training.meta.epoch_bar import EpochBar


def test_an_epoch_shows_the_loss_of_each_source(settings, capsys):
    for is_shown in (True, False):
        with EpochBar(settings(progress=True), ["a", "b"], shown=is_shown) as bar:
            bar.update({"epoch": 0.0, "loss a": 0.5, "loss b": 0.25})
        assert ("loss a 0.500, b 0.250" in capsys.readouterr().err) == is_shown


def test_progress_names_each_source(sources, make_encoder, capsys, settings):
    meta_train(sources, encoder=make_encoder(), settings=settings(max_epochs=1, progress=True))
    assert "site-1" in capsys.readouterr().err
