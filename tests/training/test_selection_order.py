"""The order of choice, against loops over everybody."""

import numpy as np
import pandas as pd
import pytest

from graphssl.training.selection_order import in_order


def units(n, seed, width=4):
    vectors = np.random.default_rng(seed).standard_normal((n, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


POOL, TARGET = units(30, 0), units(5, 1)


def ranks_and_votes(k):
    """Best rank and votes of whoever is among the `k` nearest of anybody, one of the target after the other."""
    rank, votes = {}, {}
    for vector in TARGET:
        for place, subject in enumerate(np.argsort(-POOL @ vector)[:k].tolist(), start=1):
            rank[subject] = min(place, rank.get(subject, place))
            votes[subject] = votes.get(subject, 0) + 1
    return rank, votes


def test_rounds_take_everybodys_nearest_first():
    rank, votes = ranks_and_votes(4)
    found = in_order(POOL, TARGET, rule="rounds", budget=6, k=4)
    assert found["rank"].to_dict() == rank
    assert found["votes"].to_dict() == votes
    assert found["rank"].is_monotonic_increasing
    assert found.index[found["chosen"]].tolist() == found.index[:6].tolist()


def test_the_other_rules_order_by_what_they_are_named_for():
    highest = (POOL @ TARGET.T).max(axis=1)
    by_similarity = in_order(POOL, TARGET, rule="similarity", budget=6, k=30).index.to_numpy()
    assert (np.diff(highest[by_similarity]) <= 1e-7).all()
    assert (np.diff(in_order(POOL, TARGET, rule="votes", budget=6, k=4)["votes"]) <= 0).all()
    spread = in_order(POOL, TARGET, rule="diversity", budget=6, k=30).index[:6].tolist()
    assert spread[0] == highest.argmax()
    for n in range(1, 6):
        apart = (POOL @ POOL[spread[:n]].T).max(axis=1)
        apart[spread[:n]] = np.inf
        assert spread[n] == apart.argmin()


@pytest.mark.parametrize("rule", ["rounds", "similarity", "votes", "diversity", "class_means", "random"])
def test_neighbours_are_asked_for_until_the_budget_is_met(rule):
    assert in_order(POOL, TARGET, rule=rule, budget=25, k=1)["chosen"].sum() == 25
    assert in_order(POOL, TARGET, rule=rule, budget=40, k=1)["chosen"].sum() == 30
    assert in_order(POOL[:1], TARGET, rule=rule, budget=1, k=1).index.tolist() == [0]


def test_everybody_is_chosen_by_all_and_random_is_a_function_of_the_seed():
    assert in_order(POOL, TARGET, rule="all", budget=2, k=1)["chosen"].all()
    first, again, other = (in_order(POOL, TARGET, rule="random", budget=5, k=1, seed=seed).index.tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_near_duplicates_count_once_and_values_take_turns():
    twice = np.concatenate([POOL, POOL])
    found = in_order(twice, TARGET, rule="similarity", budget=30, k=60, near_duplicate=0.999)
    chosen = found.index[found["chosen"]].to_numpy()
    assert sorted(chosen % 30) == list(range(30))
    values = pd.Series(["rare"] * 3 + ["common"] * 27)
    found = in_order(POOL, TARGET, rule="rounds", budget=8, k=2, values=values)
    assert values[found.index[found["chosen"]].to_numpy()].value_counts().to_dict() == {"common": 5, "rare": 3}
