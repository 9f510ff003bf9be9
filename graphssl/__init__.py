"""Pre-training for clinical graphs: a cohort of subjects in, an encoder and an honest report out.

Public names are found when first used, so that `import graphssl` stays light: no torch, no Lightning, no nilearn until something needs them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphssl import (
        atlases,
        data,
        datasets,
        encoders,
        errors,
        estimators,
        evaluation,
        graphs,
        initializers,
        objectives,
        reports,
        statistics,
        training,
        views,
    )
    from graphssl.atlases import AtlasConverter
    from graphssl.data import Atlas, Cohort, ConnectomeBatch, MultimodalBatch, MultimodalBuilder, RegionData, Schema, Split
    from graphssl.encoders import MultimodalEncoder
    from graphssl.estimators import ConnectomeClassifier, PopulationClassifier
    from graphssl.evaluation import evaluate
    from graphssl.initializers import initialize
    from graphssl.reports import write_report
    from graphssl.training import Model
    from graphssl.training import load_model as load
    from graphssl.training.finetune import finetune
    from graphssl.training.meta import MAML, MetaSettings, Source
    from graphssl.training.meta.meta_train import meta_train
    from graphssl.training.pretrain import pretrain
    from graphssl.training.stage import Stage
    from graphssl.training.stages import pretrain_stages
    from graphssl.training.transfer import transfer

    __version__: str

__all__ = [
    "MAML",
    "Atlas",
    "AtlasConverter",
    "Cohort",
    "ConnectomeBatch",
    "ConnectomeClassifier",
    "MetaSettings",
    "Model",
    "MultimodalBatch",
    "MultimodalBuilder",
    "MultimodalEncoder",
    "PopulationClassifier",
    "RegionData",
    "Schema",
    "Source",
    "Split",
    "Stage",
    "__version__",
    "atlases",
    "data",
    "datasets",
    "encoders",
    "errors",
    "estimators",
    "evaluate",
    "evaluation",
    "finetune",
    "graphs",
    "initialize",
    "initializers",
    "load",
    "meta_train",
    "objectives",
    "pretrain",
    "pretrain_stages",
    "reports",
    "select_nearest",
    "statistics",
    "training",
    "transfer",
    "views",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Find a public name where it lives (PEP 562); it is then an ordinary attribute."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("graphssl")
    elif name in _HOMES:
        module, attribute = _HOMES[name]
        value = getattr(import_module(f"graphssl.{module}"), attribute)
    elif name in __all__:
        value = import_module(f"graphssl.{name}")
    else:
        raise AttributeError(f"module 'graphssl' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Module and name there of every public name that is not itself a module.
_HOMES = {
    "Atlas": ("data", "Atlas"),
    "AtlasConverter": ("atlases", "AtlasConverter"),
    "Cohort": ("data", "Cohort"),
    "ConnectomeBatch": ("data", "ConnectomeBatch"),
    "ConnectomeClassifier": ("estimators", "ConnectomeClassifier"),
    "MAML": ("training.meta", "MAML"),
    "MetaSettings": ("training.meta", "MetaSettings"),
    "Model": ("training", "Model"),
    "MultimodalBatch": ("data", "MultimodalBatch"),
    "MultimodalBuilder": ("data", "MultimodalBuilder"),
    "MultimodalEncoder": ("encoders", "MultimodalEncoder"),
    "PopulationClassifier": ("estimators", "PopulationClassifier"),
    "RegionData": ("data", "RegionData"),
    "Schema": ("data", "Schema"),
    "Source": ("training.meta", "Source"),
    "Split": ("data", "Split"),
    "Stage": ("training", "Stage"),
    "evaluate": ("evaluation", "evaluate"),
    "finetune": ("training", "finetune"),
    "initialize": ("initializers", "initialize"),
    "load": ("training", "load_model"),
    "meta_train": ("training.meta", "meta_train"),
    "pretrain": ("training", "pretrain"),
    "pretrain_stages": ("training", "pretrain_stages"),
    "select_nearest": ("training", "select_nearest"),
    "transfer": ("training", "transfer"),
    "write_report": ("reports", "write_report"),
}
