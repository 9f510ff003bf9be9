"""Descriptors of texture: blind to layout, against loops, and good for telling textures that pixels do not tell."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F
from torch.testing import assert_close

from graphssl.data import ImageBatch
from graphssl.encoders import TextureEncoder
from graphssl.encoders.images.texture import Gram, ResidualEncoding, Statistics, signed_root
from graphssl.errors import ConfigError

DESCRIPTORS = [Gram(4), ResidualEncoding(4, 3), Statistics(4)]


@pytest.mark.parametrize("descriptor", DESCRIPTORS, ids=lambda each: type(each).__name__)
def test_the_order_of_places_does_not_matter(descriptor):
    tokens = torch.randn(2, 30, 4)
    found = descriptor(tokens)
    assert found.shape == (2, descriptor.width)
    assert_close(descriptor(tokens[:, torch.randperm(30)]), found, rtol=1e-4, atol=1e-5)
    assert_close(descriptor(torch.cat([tokens, tokens], dim=1)), found, rtol=1e-4, atol=1e-5)  # the size of the map neither


def test_gram_against_loops():
    tokens = torch.randn(1, 5, 4)
    expected = []
    for a in range(4):
        for b in range(a, 4):
            mean = sum((tokens[0, n, a] * tokens[0, n, b]).item() for n in range(5)) / 5
            expected.append(signed_root(torch.tensor(mean)))
    assert_close(Gram(4)(tokens)[0], F.normalize(torch.stack(expected), dim=0), rtol=1e-4, atol=1e-5)


def test_residual_encoding_against_loops():
    torch.manual_seed(0)
    descriptor, tokens = ResidualEncoding(4, 3), torch.randn(1, 5, 4)
    encoded = torch.zeros(3, 4)
    for n in range(5):
        apart = tokens[0, n] - descriptor.words
        shares = F.softmax(-descriptor.sharpness * apart.square().sum(dim=1), dim=0)
        assert_close(descriptor.assignments(tokens)[0, n], shares, rtol=1e-4, atol=1e-5)
        encoded += shares.unsqueeze(1) * apart
    assert_close(descriptor(tokens)[0], F.normalize(encoded.flatten(), dim=0), rtol=1e-4, atol=1e-5)


def test_statistics_against_scipy():
    from scipy.stats import skew

    tokens = torch.randn(1, 50, 4, dtype=torch.float64).exp()
    mean, deviation, skewness = Statistics(4)(tokens)[0].split(4)
    assert_close(mean, tokens[0].mean(dim=0))
    assert_close(deviation, tokens[0].std(dim=0, correction=0), rtol=1e-4, atol=1e-4)
    assert_close(skewness, torch.from_numpy(skew(tokens[0].numpy(), axis=0)), rtol=1e-3, atol=1e-3)


def test_flat_maps_give_finite_gradients():
    tokens = torch.zeros(1, 6, 4, requires_grad=True)
    for descriptor in DESCRIPTORS:
        descriptor(tokens).sum().backward()
    assert tokens.grad.isfinite().all()


def test_the_dictionary_says_which_texture_is_where(make_images):
    encoder = TextureEncoder(width=4, blocks=(1,), n_channels=4, descriptor="residual", n_words=3).eval()
    found = encoder(make_images(2, 1, 8, 8))
    shares = encoder.describe.assignments(found.tokens)
    assert shares.shape == (2, 64, 3)
    assert_close(shares.sum(dim=2), torch.ones(2, 64))


def stripes_and_speckle(n, generator):
    """Half of the images have noise that is smooth along one axis, half along the other; every pixel has the same distribution in both."""
    noise = torch.randn(n, 1, 20, 20, generator=generator)
    smooth = F.avg_pool2d(noise, (1, 5), stride=1)[:, :, :16, :16]
    label = torch.arange(n) % 2
    images = torch.where(label[:, None, None, None] == 1, smooth.transpose(2, 3), smooth)
    return ImageBatch(tuple(f"s{k}" for k in range(n)), images / images.std()), label


@pytest.mark.parametrize("descriptor", ["gram", "statistics"])
def test_textures_are_told_apart_where_pixels_do_not_tell(descriptor):
    generator = torch.Generator().manual_seed(0)
    (train, label), (test, truth) = stripes_and_speckle(80, generator), stripes_and_speckle(80, generator)
    torch.manual_seed(0)
    encoder = TextureEncoder(width=8, blocks=(1,), n_channels=8, descriptor=descriptor).eval()
    head = torch.nn.Linear(encoder.pooled_width, 2)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(60):
        loss = F.cross_entropy(head(encoder(train).pooled), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        texture = (head(encoder(test).pooled).argmax(dim=1) == truth).float().mean()
    pixels = LogisticRegression(max_iter=500).fit(train.images.flatten(1).numpy(), label.numpy())
    assert texture > 0.95
    assert pixels.score(test.images.flatten(1).numpy(), truth.numpy()) < 0.7


def test_an_unknown_descriptor_is_refused():
    with pytest.raises(ConfigError, match="Expected the descriptor 'gram', 'residual' or 'statistics', found 'lbp'"):
        TextureEncoder(descriptor="lbp")
