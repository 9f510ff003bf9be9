"""Transfer: an encoder pre-trained on images made ready for images of another kind, size or number of axes."""

from sklearn.base import clone

from graphssl.data.cohort import Cohort
from graphssl.data.image_builder import ImageBuilder
from graphssl.encoders.images import AbstractImageEncoder, FrameEncoder, ResNet, SliceTransformer
from graphssl.errors import DataError
from graphssl.initializers.dimension import Inflation, initialise_from_2d
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
    one of volumes. A 2D `ResNet` also becomes the network of a `FrameEncoder` or a `SliceTransformer`, whose other weights are new. A head for
    another target is dropped.

    Args:
        model: A model of images; it is not changed.
        cohort: Training subjects of the new cohort; leave test subjects out of it.
        builder: How its images are prepared; as the model's when left out.
        encoder: The encoder whose arguments to use, such as a `ResNet` with strides along depth; the model's when left out.
        inflation: What kernels of images become, see [`inflated_kernel`][graphssl.initializers.inflated_kernel].
        seed: Seed of what is random in a new encoder, before the weights are put in.

    Raises:
        DataError: If the model is none of images.
        CheckpointError: If the weights do not fit the encoder in name, size or channels.
    """
    if not isinstance(model.builder, ImageBuilder):
        raise DataError(f"Expected a model of images to transfer, found one made by a {type(model.builder).__name__}. Use transfer.")
    fitted = clone(builder or model.builder).fit(cohort)
    ready = fresh((encoder or model.encoder).for_builder(fitted), seed)
    started = ready.network if isinstance(ready, SliceTransformer | FrameEncoder) and isinstance(model.encoder, ResNet) else ready
    initialise_from_2d(started, model.encoder.state_dict(), inflation, leave_out=())
    card = {**model.card, "transferred to": f"{cohort.name}, {len(cohort)} subjects (cohort hash {cohort.hash})"}
    return Model(fitted, ready.eval(), history=model.history, card=card)
