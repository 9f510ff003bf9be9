"""Transfer: an encoder pre-trained on images made ready for images of another kind, size or number of axes."""

import torch
from sklearn.base import clone
from torch.nn.modules.batchnorm import _BatchNorm

from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.data.image_builder import ImageBuilder
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images import AbstractImageEncoder, FrameEncoder, ResNet, SliceTransformer
from graphssl.errors import ConfigError, DataError
from graphssl.initializers.dimension import Inflation, initialise_from_2d
from graphssl.initializers.hyper_initializer import HyperInitializer
from graphssl.initializers.hypernetwork import HyperNetwork
from graphssl.training.model import Model, fresh


def transfer_images(
    model: Model,
    cohort: Cohort,
    *,
    builder: ImageBuilder | None = None,
    encoder: AbstractImageEncoder | None = None,
    inflation: Inflation = "mean",
    seed: int = 0,
) -> Model:
    """Make a model of images ready for a cohort whose images are prepared in another way, or are volumes where the model learned from images.

    The builder is fitted on the new cohort. All weights of the encoder are kept; kernels of images become kernels of volumes where the new encoder is
    one of volumes. A 2D `ResNet` also becomes the network of a `FrameEncoder` or a `SliceTransformer`, whose other weights are new. A `HyperNetwork`
    predicts the weights of the encoder, whatever that is; its batch normalisation takes statistics of the new cohort. A head for another target is
    dropped.

    Args:
        model: A model of images; it is not changed.
        cohort: Training subjects of the new cohort; leave test subjects out of it.
        builder: How its images are prepared; as the model's when left out.
        encoder: The encoder whose arguments to use, such as a `ResNet` with strides along depth; the model's when left out.
        inflation: What kernels of images become, see [`inflated_kernel`][graphssl.initializers.inflated_kernel].
        seed: Seed of what is random in a new encoder, before the weights are put in.

    Raises:
        DataError: If the model is none of images.
        ConfigError: If the model is a hypernetwork, and no encoder is given.
        CheckpointError: If the weights do not fit the encoder in name, size or channels.
    """
    if not isinstance(model.builder, ImageBuilder):
        raise DataError(f"Expected a model of images to transfer, found one made by a {type(model.builder).__name__}. Use transfer.")
    if isinstance(model.encoder, HyperNetwork) and encoder is None:
        raise ConfigError("Expected an encoder for the hypernetwork to initialise, found none. Give transfer_images(encoder=…).")
    fitted = clone(builder or model.builder).fit(cohort)
    ready = fresh((encoder or model.encoder).for_builder(fitted), seed)
    card = {**model.card, "transferred to": f"{cohort.name}, {len(cohort)} subjects (cohort hash {cohort.hash})"}
    if isinstance(model.encoder, HyperNetwork):
        card["weights predicted"] = str(HyperInitializer(model.encoder).initialize(ready, leave_out=(), partial=True, seed=seed))
        _take_statistics(ready, fitted.transform(cohort))
        return Model(fitted, ready.eval(), history=model.history, card=card)
    started = ready.network if isinstance(ready, SliceTransformer | FrameEncoder) and isinstance(model.encoder, ResNet) else ready
    initialise_from_2d(started, model.encoder.state_dict(), inflation, leave_out=())
    return Model(fitted, ready.eval(), history=model.history, card=card)


def _take_statistics(encoder: AbstractEncoder, batch: ImageBatch) -> None:
    """Means and variances of batch normalisation, each minibatch counting alike: weights that were predicted have met no image yet."""
    norms = [part for part in encoder.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None
    encoder.train()
    with torch.no_grad():
        for rows in torch.arange(len(batch)).split(encoder.rows_at_once) if norms else ():
            if len(rows) > 1 or len(batch) == 1:
                encoder(batch[rows.tolist()])
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
