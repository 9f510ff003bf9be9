"""The demonstration: a configuration that needs no file."""

from typing import Any


def demo_configuration() -> dict[str, Any]:
    """The configuration of `graphssl demo`: a simulated cohort of four sites and two atlases, and everything that is done with a real one."""
    return {
        "name": "demo",
        "cohort": {
            "adapter": "simulate",
            "arguments": {"atlases": ["simulated48", "simulated64"], "n_subjects": 120, "sites": 4, "seed": 0},
        },
        "target": "diagnosis",
        "classes": ["control", "patient"],
        "encoder": {"class_path": "graphssl.encoders.GraphTransformer", "init_args": {"width": 32, "depth": 1}},
        "objective": {"class_path": "graphssl.objectives.MaskedRegions"},
        "pretraining": {"max_epochs": 12, "batch_size": 16, "learning_rate": 3e-3},
        "finetuning": {"max_epochs": 4, "batch_size": 16, "learning_rate": 3e-4},
        "evaluation": {"seeds": [0], "label_fractions": [0.25, 1.0], "n_jobs": 2},
    }
