"""Seeds of the parts of a training, so that a resumed one draws what an unbroken one would have drawn."""


def nth_seed(seed: int, n: int) -> int:
    """Seed of the n-th epoch, step or minibatch of a training; it depends on these two numbers only.

    Args:
        seed: Seed of the training.
        n: Number of the epoch, step or minibatch.
    """
    return (1_000_003 * seed + n) % 2**63


def seed_of_process(seed: int, rank: int) -> int:
    """Seed of what one of several processes draws for itself, such as dropout; that of the first is the seed itself.

    Args:
        seed: Seed that all share.
        rank: Number of the process, from 0.
    """
    return (seed + rank * 2**40) % 2**63
