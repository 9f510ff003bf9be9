"""Stacked tasks: each task's part is its own batch again, and what cannot be stacked is refused."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch

from graphssl.data import EventTokenizer, ImageBuilder, TableBatch, TimelineTokenizer
from graphssl.datasets.simulate_images import simulate_images
from graphssl.datasets.simulate_stays import simulate_stays
from graphssl.errors import DataError
from graphssl.training.meta import stack


class Labelled(NamedTuple):
    batch: object
    labels: torch.Tensor


def part(stacked, k):
    """The batch of task `k`, as a mapped function would see it."""

    def cut(tensors):
        if isinstance(tensors, dict):
            return {name: cut(value) for name, value in tensors.items()}
        return tensors[k] if isinstance(tensors, torch.Tensor) else [cut(value) for value in tensors]

    return stacked.task(cut(stacked.tensors))


def test_a_task_of_a_stack_is_its_batch_padded_to_the_largest(make_batch):
    small, large = make_batch(3, 5, seed=1, missing={0: [2]}), make_batch(3, 9, seed=2)
    stacked = stack([small, large])
    assert stacked.tensors["weights"].shape == (2, 3, 9, 9)
    found = part(stacked, 0)
    assert not found.mask[:, 5:].any()
    assert not found.visible[:, 5:].any()
    for name in ("weights", "visible"):
        assert torch.equal(getattr(found, name)[:, :5, :5], getattr(small, name))
    assert torch.equal(part(stacked, 1).centroids, large.centroids)


def test_covariates_labels_and_names_go_along(make_batch, with_covariates):
    tasks = [Labelled(with_covariates(make_batch(3, 5, seed=seed), seed=seed), torch.tensor([0, 1, seed])) for seed in (0, 1)]
    found = part(stack(tasks), 1)
    assert isinstance(found, Labelled)
    assert torch.equal(found.labels, torch.tensor([0, 1, 1]))
    assert torch.equal(found.batch.covariates.numbers, tasks[1].batch.covariates.numbers)
    assert torch.equal(found.batch.covariates.hidden, tasks[1].batch.covariates.hidden)
    assert found.batch.subject_ids == tasks[0].batch.subject_ids  # both tasks hold the same subjects here
    listed = part(stack([{"support": [task.batch]} for task in tasks]), 0)
    assert torch.equal(listed["support"][0].weights, tasks[0].batch.weights)


def test_names_of_different_subjects_tell_only_which_rows_share_one(make_batch):
    batch = make_batch(3, 5)
    tasks = [replace(batch, subject_ids=("a", "b", "a"), atlas=("x",) * 3), replace(batch, subject_ids=("c", "d", "c"), atlas=("y",) * 3)]
    found = part(stack(tasks), 0)
    assert found.subject_ids[0] == found.subject_ids[2] != found.subject_ids[1]
    assert not {*found.subject_ids, *found.atlas} & {"a", "b", "c", "d", "x", "y"}
    with pytest.raises(DataError, match="rows of one subject_ids in the same places, found different ones"):
        stack([tasks[0], replace(batch, subject_ids=("c", "c", "d"))])


def test_records_are_stacked():
    def table(seed):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.randn(2, 3, generator=generator)
        return TableBatch(
            (f"p{seed}", f"q{seed}"), numbers, numbers.unsqueeze(2), torch.zeros(2, 1, dtype=torch.long), torch.ones(2, 4, dtype=torch.bool)
        )

    found = part(stack([table(0), table(1)]), 1)
    assert torch.equal(found.numbers, table(1).numbers)
    assert not found.hidden.any()


@pytest.mark.parametrize("tokenizer", [TimelineTokenizer(n_bins=4, bin_hours=12), EventTokenizer()])
def test_records_of_events_are_stacked_with_their_static_columns(tokenizer):
    cohort = simulate_stays(16)
    batch = tokenizer.fit(cohort).transform(cohort)
    tasks = [batch[[0, 1]], batch[[5, 3]]]
    found, joined = part(stack(tasks), 1), type(batch).cat(tasks)
    assert type(found) is type(batch)
    assert found.subject_ids == ("row 0 of a task", "row 1 of a task")
    for name, tensor in joined.tensors().items():
        assert torch.equal(found.tensors()[name], tensor[2:])


def test_images_are_stacked_with_masks_and_what_is_visible(tmp_path):
    cohort = simulate_images(6, size=8, folder=tmp_path)
    batch = ImageBuilder().fit(cohort).transform(cohort)
    visible = torch.rand(6, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5
    tasks = [replace(batch[[0, 1]], visible=visible[:2]), replace(batch[[5, 3]], visible=visible[2:4])]
    found = part(stack(tasks), 1)
    assert found.subject_ids == ("row 0 of a task", "row 1 of a task")
    for name in ("images", "masks", "visible"):
        assert torch.equal(getattr(found, name), getattr(tasks[1], name))
    with pytest.raises(DataError, match="the same of images, masks and what is visible in each task"):
        stack([tasks[0], batch[[2, 4]]])


def test_what_cannot_be_stacked_is_refused(make_batch):
    batch = make_batch(3, 5)
    with pytest.raises(DataError, match="at least one task, found none"):
        stack([])
    with pytest.raises(DataError, match="same kind of data in each task, found ConnectomeBatch, Tensor"):
        stack([batch, torch.zeros(3)])
    with pytest.raises(DataError, match=r"as many rows in each task, found \[3, 2\].*path='sequential'"):
        stack([batch, batch[[0, 1]]])
    with pytest.raises(DataError, match="tensors of the same shape"):
        stack([torch.zeros(3), torch.zeros(2)])
    with pytest.raises(DataError, match="as many entries"):
        stack([[torch.zeros(1)], []])
    with pytest.raises(DataError, match="the same entries"):
        stack([{"a": torch.zeros(1)}, {"b": torch.zeros(1)}])
    with pytest.raises(DataError, match="or tensors, found str"):
        stack(["a", "b"])
