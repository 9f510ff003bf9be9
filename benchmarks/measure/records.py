"""What a comparison of ours with a peer found, as the record that every benchmark prints."""

import statistics
from collections.abc import Sequence

# CPU seconds and MiB of each repetition.
Costs = Sequence[tuple[float, float]]


def record(name: str, peer: str, mine: Costs, theirs: Costs, equal: bool) -> dict[str, object]:
    """Medians of the seconds, highest peaks of memory, and the ratio of the peer's seconds to ours."""
    seconds = [statistics.median(cpu for cpu, _ in side) for side in (mine, theirs)]
    peaks = [max(mib for _, mib in side) for side in (mine, theirs)]
    return {
        "name": name,
        "peer": peer,
        "ours_seconds": round(seconds[0], 4),
        "peer_seconds": round(seconds[1], 4),
        "ratio": round(seconds[1] / seconds[0], 2),
        "ours_mib": round(peaks[0], 1),
        "peer_mib": round(peaks[1], 1),
        "equal": equal,
    }


def report(part: dict[str, object]) -> None:
    """One line for people."""
    print(
        f"{part['name']:<26} {part['ours_seconds']:7.3f} s {part['ours_mib']:6.0f} MiB   {part['peer']:<33} {part['peer_seconds']:7.3f} s "
        f"{part['peer_mib']:6.0f} MiB   ratio {part['ratio']:6.2f}{'' if part['equal'] else '   NOT EQUAL'}"
    )
