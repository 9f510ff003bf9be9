"""Fine-tuning for a number of steps of the optimiser, however few subjects are labelled."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import log_loss
from torch import Tensor, nn

from graphssl.data.batch import Batch
from graphssl.data.classes import classes_of
from graphssl.data.cohort import Cohort
from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.images.segmentation import SegmentationDecoder
from graphssl.errors import ConfigError, GraphSSLError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.segmentation import overlap
from graphssl.objectives.supervised import ClassWeight, Supervised
from graphssl.statistics.metrics import auroc
from graphssl.training.gradient_clipping import clip_adaptively
from graphssl.training.learner import WarmupCosine
from graphssl.training.model import Model
from graphssl.training.seeds import nth_seed
from graphssl.training.segment import (
    SEGMENTATION,
    SegmentationSettings,
    masked_rows,
    segmentation_objective,
    subjects_with_masks,
    with_classes,
)
from graphssl.views.base import AbstractView

# Name of the score that a curve holds, the higher the better.
SCORE = "validation_score"


class HyperRule(NamedTuple):
    """What BiT-HyperRule says of a fine-tuning.

    Attributes:
        n_steps: Steps of the optimiser.
        decay_at: Steps at which the learning rate falls to a tenth.
        warmup: Steps of linear warm-up.
        mixup: Strength of mixing pairs of images (Beta distribution); 0 for none.
    """

    n_steps: int
    decay_at: tuple[int, ...]
    warmup: int
    mixup: float


def bit_hyper_rule(n_examples: int) -> HyperRule:
    """How long to fine-tune by the number of training examples alone (BiT, Kolesnikov et al., ECCV 2020).

    Args:
        n_examples: Labelled training examples.
    """
    if n_examples < 20_000:
        return HyperRule(500, (200, 300, 400), 100, 0.0)
    if n_examples < 500_000:
        return HyperRule(10_000, (3_000, 6_000, 9_000), 500, 0.1)
    return HyperRule(20_000, (6_000, 12_000, 18_000), 500, 0.1)


def bit_image_size(height: int, width: int) -> tuple[int, int]:
    """Side to resize images to and side of the crop, by their area (BiT-HyperRule).

    Args:
        height: Pixels.
        width: Pixels.
    """
    return (160, 128) if height * width < 96**2 else (512, 480)


@dataclass(frozen=True)
class StepSettings:
    """How to fine-tune for a number of steps.

    Fewer labelled subjects are met more often, so that shares of the labels are trained for the same time (Kalapos & Gyires-Tóth, 2022).

    Args:
        n_steps: Steps of the optimiser.
        batch_size: Rows a step; all of them where there are fewer.
        learning_rate: Highest learning rate.
        weight_decay: Weight decay of matrices.
        optimizer: `"adamw"` with a short warm-up and a cosine decay, or `"sgd"` with momentum 0.9.
        rule: `"bit"` takes steps, decay, warm-up and mixing from [`bit_hyper_rule`][graphssl.training.bit_hyper_rule].
        share: Share of the rule's steps that are taken, for small machines.
        clip: Share of the weights' norm that gradients are clipped to, unit by unit but for the output layer; the norm of all is kept below one when
            left out.
        resampling: `"mean"` lets every class have the mean number of rows in an epoch, drawn anew; `"none"` leaves them.
        view: What is done to rows in training; rows of images with their masks.
        n_checks: How often the validation subjects are scored on the way.
        keep: `"best"` keeps the weights of the best check, where there are validation subjects, `"last"` those of the end.

    Raises:
        ConfigError: If a number is not positive.
    """

    n_steps: int = 300
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    optimizer: Literal["adamw", "sgd"] = "adamw"
    rule: Literal["bit"] | None = None
    share: float = 1.0
    clip: float | None = None
    resampling: Literal["none", "mean"] = "none"
    view: AbstractView | None = None
    n_checks: int = 10
    keep: Literal["best", "last"] = "last"

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_size", "learning_rate", "share", "n_checks"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"Expected {name} above 0, found {getattr(self, name)}.")

    def plan(self, n_examples: int) -> HyperRule:
        """Steps, decay, warm-up and mixing for a number of labelled examples."""
        if self.rule is None:
            return HyperRule(self.n_steps, (), max(1, self.n_steps // 10), 0.0)
        ruled = bit_hyper_rule(n_examples)
        shortened = [max(1, round(self.share * n)) for n in (ruled.n_steps, *ruled.decay_at, ruled.warmup)]
        return HyperRule(shortened[0], tuple(shortened[1:-1]), shortened[-1], ruled.mixup)


STEPS = StepSettings()


def finetune_by_steps(
    model: Model,
    cohort: Cohort,
    *,
    target: str | None = None,
    classes: Sequence[str] | None = None,
    class_weight: ClassWeight = "balanced",
    settings: StepSettings = STEPS,
    validation: Cohort | None = None,
    seed: int = 0,
) -> Model:
    """Give a model a head of zeros for a target, and train both for a number of steps.

    Args:
        model: A pre-trained model; it is not changed.
        cohort: Training subjects, all with a label.
        target: Column to predict; the cohort's one target when left out.
        classes: Names of the classes in order, the positive one last; sorted when left out.
        class_weight: See `finetune`; classes that are resampled to their mean count alike already, and get no weight.
        settings: How long and how fast.
        validation: Subjects with a label who are scored on the way, none of whom it is trained on.
        seed: Seed of order and dropout.

    Returns:
        The model, whose `history` is a curve: a row a check with `step`, `train_loss`, and of validation subjects `validation_score` (AUROC) and
        `validation_loss`.

    Raises:
        DataError: If a class has no subject, or a label is none of the classes that are named.
        GraphSSLError: If the loss is not finite.
    """
    column = str(cohort.target(target).name)
    names, index = classes_of(cohort, target, classes)
    weight = None if settings.resampling == "mean" else class_weight
    objective = Supervised(index, len(names), weight).prepare(model.encoder)
    nn.init.zeros_(objective.head.weight)
    nn.init.zeros_(objective.head.bias)
    tuned = replace(model, encoder=copy.deepcopy(model.encoder)).with_head(objective.head, names, column)
    check = None if validation is None else _classification_check(tuned, validation, column)
    curve = train_by_steps(
        tuned.encoder, objective, model.builder.transform(cohort), settings, classes=index, output=objective.head, check=check, seed=seed
    )
    card = {**model.card, "fine-tuned on": f"{cohort.name}, {len(cohort)} labelled subjects (cohort hash {cohort.hash})"}
    return replace(tuned, history=curve, card={**card, "target": f"{column}: {list(names)}"}, target_encoder=None)


def segment_by_steps(
    model: Model,
    cohort: Cohort,
    *,
    segmentation: SegmentationSettings = SEGMENTATION,
    settings: StepSettings = STEPS,
    validation: Cohort | None = None,
    decoder: SegmentationDecoder | None = None,
    seed: int = 0,
) -> Model:
    """Give a model of images a decoder, and train both on masks for a number of steps.

    Args:
        model: A pre-trained model; it is not changed.
        cohort: Training subjects; those without a mask are left out.
        segmentation: What is learned from the masks.
        settings: How long and how fast.
        validation: Subjects with masks who are scored on the way, none of whom it is trained on.
        decoder: A pre-trained decoder, of the width that is asked for; all of it but its output layers is taken over.
        seed: Seed of decoder and order.

    Returns:
        The model, whose `history` is a curve: a row a check with `step`, `train_loss`, and of validation subjects `validation_score` (Dice of all
        their voxels).

    Raises:
        ConfigError: If it is no model of images, or the decoder has other weights.
        DataError: If the cohort has no masks.
        GraphSSLError: If the loss is not finite.
    """
    builder = with_classes(model, cohort)
    known = [None if part is None else part.select(subjects_with_masks(part, builder.name_)) for part in (cohort, validation)]
    assert known[0] is not None
    objective = segmentation_objective(builder, segmentation)
    encoder = copy.deepcopy(model.encoder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        objective.prepare(encoder)
    if decoder is not None:
        _take_over(objective.decode, decoder)
    held = None if known[1] is None else masked_rows(builder, known[1])
    tuned = Model(builder, encoder, card=model.card, decoder=objective.decode)
    check = None if held is None else lambda: {SCORE: _dice(tuned, held, segmentation)}
    curve = train_by_steps(encoder, objective, masked_rows(builder, known[0]), settings, output=objective.decode.heads, check=check, seed=seed)
    card = {**model.card, "fine-tuned on": f"masks of {cohort.name}, {len(known[0])} subjects (cohort hash {cohort.hash})"}
    return replace(tuned, history=curve, card={**card, "classes": list(builder.classes_)})


def train_by_steps(
    encoder: AbstractEncoder,
    objective: AbstractObjective,
    train: Batch,
    settings: StepSettings,
    *,
    classes: Mapping[str, int] | None = None,
    output: nn.Module | None = None,
    check: Callable[[], Mapping[str, float]] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Train encoder and objective in place for a number of steps.

    What is random in a step comes from the seed and the step's number. The random numbers of the caller are left as they were.

    Args:
        encoder: The encoder.
        objective: The objective, prepared for the encoder.
        train: Training rows.
        settings: How long and how fast.
        classes: Class of each subject, where classes are resampled.
        output: Output layer, whose gradients are not clipped unit by unit.
        check: What scores validation subjects on the way, by name; `validation_score` chooses the best check.
        seed: Seed of order, views and dropout.

    Returns:
        A row a check.

    Raises:
        GraphSSLError: If the loss is not finite.
    """
    plan = settings.plan(len(set(train.subject_ids)))
    trained = nn.ModuleList([encoder, objective])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trained.to(device)
    optimizer, schedule = _optimizer(trained, settings, plan)
    at_output = {id(parameter) for parameter in (output.parameters() if output is not None else ())}
    inner = [parameter for parameter in trained.parameters() if id(parameter) not in at_output]
    draws = rows_by_step(train.subject_ids, settings, classes, seed)
    checks = set(np.linspace(0, plan.n_steps, settings.n_checks + 1).round().astype(int).tolist()[1:])
    losses: list[float] = []
    curve: list[dict[str, float]] = []
    best: dict[str, Tensor] | None = None
    with torch.random.fork_rng(devices=[]):
        for step in range(1, plan.n_steps + 1):
            trained.train()
            step_seed = nth_seed(seed, step)
            torch.manual_seed(step_seed)
            loss = _loss(encoder, objective, train[next(draws)].to(device), settings.view, plan.mixup, step_seed)
            if not torch.isfinite(loss):
                raise GraphSSLError(f"Expected a finite loss at step {step}, found {loss.item()}. Lower the learning rate.")
            optimizer.zero_grad()
            loss.backward()
            if settings.clip is None:
                nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            else:
                clip_adaptively(inner, settings.clip)
            optimizer.step()
            schedule.step()
            objective.after_step(encoder, step / plan.n_steps)
            losses.append(loss.item())
            if step in checks:
                trained.eval()
                found = {} if check is None else dict(check())
                if found and found[SCORE] > max((row[SCORE] for row in curve), default=-np.inf):
                    best = copy.deepcopy(trained.state_dict())
                curve.append({"step": step, "train_loss": float(np.mean(losses)), **found})
                losses = []
    if settings.keep == "best" and best is not None:
        trained.load_state_dict(best)
    trained.cpu().eval()
    return pd.DataFrame(curve)


def _loss(encoder: AbstractEncoder, objective: AbstractObjective, rows: Batch, view: AbstractView | None, mixup: float, step_seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(step_seed)
    if view is not None:
        rows = view(rows, generator)
    if mixup and isinstance(rows, ImageBatch) and isinstance(objective, Supervised):
        return _mixed(encoder, objective, rows, mixup, generator, step_seed)
    found: Loss = objective(encoder, rows, generator)
    return found.total


def _mixed(
    encoder: AbstractEncoder, objective: AbstractObjective, rows: ImageBatch, strength: float, generator: torch.Generator, step_seed: int
) -> Tensor:
    """Mixup (Zhang et al., ICLR 2018): images and losses of pairs are weighted alike."""
    share = float(np.random.default_rng(step_seed).beta(strength, strength))
    partner = torch.randperm(len(rows), generator=generator)
    mixed = replace(rows, images=share * rows.images + (1 - share) * rows.images[partner.to(rows.device)])
    swapped = replace(mixed, subject_ids=tuple(rows.subject_ids[k] for k in partner.tolist()))
    found: Tensor = share * objective(encoder, mixed, generator).total + (1 - share) * objective(encoder, swapped, generator).total
    return found


def rows_by_step(subjects: Sequence[str], settings: StepSettings, classes: Mapping[str, int] | None, seed: int) -> Iterator[list[int]]:
    """Rows of step after step: epochs one after another, cut into minibatches.

    Args:
        subjects: Subject of each row.
        settings: Rows a step, and how classes are resampled.
        classes: Class of each subject, where they are.
        seed: Seed of the order.

    Raises:
        ConfigError: If classes are to be resampled and none are given.
    """
    generator = np.random.default_rng(seed)
    size = min(settings.batch_size, len(subjects))
    of_class = None
    if settings.resampling == "mean":
        if classes is None:
            raise ConfigError("Expected classes to resample, found none. Leave resampling at 'none' where masks are learned.")
        known = np.asarray([classes[subject] for subject in subjects])
        of_class = [np.flatnonzero(known == label) for label in np.unique(known)]
    left = np.empty(0, dtype=np.int64)
    while True:
        while len(left) < size:
            left = np.concatenate([left, _epoch(len(subjects), of_class, generator)])
        yield left[:size].tolist()
        left = left[size:]


def _epoch(n_rows: int, of_class: list[npt.NDArray[np.int64]] | None, generator: np.random.Generator) -> npt.NDArray[np.int64]:
    """All rows in any order, or the mean number of rows of every class: some of a common one, those of a rare one several times."""
    if of_class is None:
        return generator.permutation(n_rows)
    n = max(1, round(n_rows / len(of_class)))
    drawn = [generator.permutation(np.tile(generator.permutation(members), -(-n // len(members)))[:n]) for members in of_class]
    return generator.permutation(np.concatenate(drawn))


def _optimizer(trained: nn.Module, settings: StepSettings, plan: HyperRule) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9)
        if settings.optimizer == "sgd"
        else torch.optim.AdamW(groups, lr=settings.learning_rate)
    )

    def stepwise(step: int) -> float:
        return min(1.0, (step + 1) / plan.warmup) * 0.1 ** sum(step >= at for at in plan.decay_at)

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, stepwise if plan.decay_at else WarmupCosine(plan.n_steps))


def _classification_check(model: Model, validation: Cohort, target: str) -> Callable[[], Mapping[str, float]]:
    batch, labels = model.builder.transform(validation), validation.target(target).astype(str)
    y = [model.classes.index(label) for label in labels]

    def check() -> Mapping[str, float]:
        probability = model.answers(batch, validation.ids).probability
        assert probability is not None
        found = auroc(y, probability[:, 1] if probability.shape[1] == 2 else probability)
        return {SCORE: found, "validation_loss": float(log_loss(y, probability, labels=list(range(probability.shape[1]))))}

    return check


def _dice(model: Model, batch: ImageBatch, segmentation: SegmentationSettings) -> float:
    assert batch.masks is not None
    return float(overlap(model.segment(batch, window=segmentation.window), batch.masks, len(model.builder.classes_)))


def _take_over(decoder: SegmentationDecoder, learned: SegmentationDecoder) -> None:
    """Weights of a decoder but for its output layers, all of them or none."""
    wanted, given = ({n: w for n, w in part.state_dict().items() if not n.startswith("heads.")} for part in (decoder, learned))
    if {n: w.shape for n, w in wanted.items()} != {n: w.shape for n, w in given.items()}:
        raise ConfigError(
            "Expected a pre-trained decoder of the size of the one to be trained, found another one. Give both one width, and the same encoder."
        )
    decoder.load_state_dict(given, strict=False)
