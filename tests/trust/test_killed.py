"""Runs that are killed at any moment at which they write, and started again with the same command, end as if nothing had happened."""

import random
import shutil

import pytest


def killed_and_resumed(verbs, words, finished, made_by, name, seed, target):
    """Kill a command at a random act of writing, up to three times, and let it end."""
    before, after, n_acts = finished(name)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(before, target)
    rng, code, kills = random.Random(f"{name} {seed}"), -9, []
    for _ in range(1 + seed % 3):
        kills.append(rng.randint(1, n_acts))
        code = verbs.run(target, words, kill=kills[-1])
        assert code in (0, -9), (kills, target.with_name("killed.log").read_text())
    assert verbs.run(target, words) == 0, (kills, target.with_name("killed.log").read_text())
    ours, wanted = made_by(target), made_by(after)
    assert ours.keys() == wanted.keys(), kills
    assert [key for key in wanted if ours[key] != wanted[key]] == [], kills


@pytest.mark.parametrize("name", ["build", "pretrain", "embed"])
def test_killed_and_started_again(verbs, commands, finished, made_by, tmp_path, name):
    killed_and_resumed(verbs, commands[name], finished, made_by, name, 0, tmp_path / "killed")


@pytest.mark.slow
def test_killed_many_times_and_started_again(verbs, commands, finished, made_by, tmp_path):
    """Every verb that writes in six ways, with one, two or three kills in each: 168 kills in all."""
    wrong = []
    for name, words in commands.items():
        for seed in range(6):
            try:
                killed_and_resumed(verbs, words, finished, made_by, name, seed, tmp_path / "killed")
            except AssertionError as error:
                wrong.append(f"{name}, {seed}: {error}")
    assert wrong == []
