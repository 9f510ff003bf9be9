"""What is said of costs, by hand on a few."""

import pytest
from measure.records import Agreement, Floor, Goal, absent, growth, record, report, slope

OURS = [(1.0, 10.0), (2.0, 12.0), (4.0, 11.0)]
THEIRS = [(3.0, 90.0), (8.0, 95.0), (4.0, 80.0)]


def test_the_ratio_is_the_median_of_the_pairs_and_not_that_of_the_medians():
    part = record("work", "peer", OURS, THEIRS, True)
    assert part["ratio"] == 3.0
    assert part["ratio_range"] == [1.0, 4.0]
    assert (part["ours_seconds"], part["peer_seconds"]) == (2.0, 4.0)
    assert (part["ours_mib"], part["peer_mib"], part["repeats"]) == (12.0, 95.0, 3)


def test_a_peer_that_is_measured_less_often_is_paired_with_the_first_of_ours():
    assert record("work", "peer", OURS, THEIRS[:2], True)["ratio"] == 3.5


def test_ours_is_set_beside_the_floor_of_its_own_round():
    part = record("work", "", OURS, (), None, floor=Floor("products", [(0.5, 0.0), (0.5, 0.0), (4.0, 0.0)], 0.25))
    assert part["floor"] == {"what": "products", "cpu_seconds": 0.5, "ratio": 2.0, "gpu_seconds": 0.25, "gpu_ratio": 8.0}
    assert "ratio" not in part
    assert record("work", "", OURS, (), None, floor=Floor("products", OURS))["floor"]["gpu_ratio"] is None


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal(ratio=3), True),
        (Goal(ratio=3.1), False),
        (Goal(seconds=1.9), False),
        (Goal(mib=12, seconds=2), True),
        (Goal(growth=1.0), True),
        (Goal(growth=0.9), False),
        (Goal(), None),
    ],
)
def test_a_goal_is_met_or_missed(goal, met):
    grown = growth("patients", [10, 100], [(1.0, 5.0), (10.0, 5.0)])
    part = record("work", "peer", OURS, THEIRS, True, goal=goal, growth=grown)
    assert part["met"] is met
    assert bool(part["goal"]) is (met is not None)


def test_growth_is_the_power_of_the_size():
    sizes = [3, 7, 50]
    assert slope(sizes, [0.2 * size**1.5 for size in sizes]) == 1.5
    found = growth("patients", sizes, [(size**2.0, 5.0) for size in sizes], [(3.0, 0.0)] * 3)
    assert (found["ours_time"], found["ours_memory"]) == (2.0, 0.0)
    assert (found["peer_time"], found["peer_memory"]) == (0.0, None)  # less than a MiB is not told from nothing


def test_results_agree_up_to_the_tolerance(capsys):
    assert record("work", "peer", OURS, THEIRS, Agreement("losses", 1e-6, 1e-5))["equal"] is True
    other = record("work", "peer", OURS, THEIRS, Agreement("losses", 1e-4, 1e-5))
    assert other["equal"] is False
    report(other)
    assert capsys.readouterr().out.rstrip().endswith("NOT EQUAL")
    assert record("work", "peer", OURS, THEIRS, "another model")["equal"] is None


def test_a_line_for_people_holds_ratio_goal_floor_and_growth(capsys):
    grown = growth("patients", [10, 100], [(1.0, 5.0), (10.0, 5.0)])
    floor = Floor("products", [(0.5, 0.0)] * 3)
    report(record("work", "peer", OURS, THEIRS, True, goal=Goal(ratio=5), floor=floor, growth=grown))
    report(absent("work", "peer", "the peer was not at hand"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "work: ours 2 s 12 MiB | peer 4 s 95 MiB | ratio 3 (1 to 4) | goal ≥ 5× MISSED | 4 × floor | slope 1 over patients"
    assert lines[1] == "work, peer: the peer was not at hand"
