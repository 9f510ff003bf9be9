"""Meta-training: several sources of subjects in, an encoder from which few subjects of another go far out."""

import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import Progress, TextColumn
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.builder import AbstractBuilder
from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.encoders.graph_transformer import GraphTransformer
from graphssl.errors import ConfigError, DataError, GraphSSLError, RunFolderError
from graphssl.folders import file_written_whole
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.default import default_objective
from graphssl.processes import Processes
from graphssl.training.checkpoint import LAST, read_checkpoint
from graphssl.training.launch import cluster, launch
from graphssl.training.learner import WarmupCosine
from graphssl.training.meta.generator import AdaptiveStep, rates_of_tasks
from graphssl.training.meta.inner import EncoderLoss, Parameters, as_function, choose_path, query_losses
from graphssl.training.meta.reptile import reptile_gradients
from graphssl.training.meta.reweighting import AbstractWeighting, EqualWeights, flat_gradients
from graphssl.training.meta.source_batches import SourceBatches
from graphssl.training.meta.strategies import DirectLearning, MetaLearning, SingleSource, Strategy
from graphssl.training.meta.tasks import Source, Task, TaskSampler
from graphssl.training.model import Model, fresh
from graphssl.training.seeds import nth_seed, seed_of_process

STOPPED = "stopped.ckpt"
_MAX_NORM = 1.0


@dataclass(frozen=True)
class MetaSettings:
    """How long, how fast and on what tasks to meta-train.

    Args:
        max_epochs: Meta-epochs.
        steps_per_epoch: Steps a meta-epoch; each draws a task of every source.
        n_support: Subjects of each class to adapt on; of all subjects without labels.
        n_query: Subjects of each class to be good at.
        learning_rate: Highest learning rate of the meta-steps.
        weight_decay: Weight decay of the meta-steps.
        accelerator: `cpu`, `gpu`, or `auto` for a GPU where there is one.
        devices: Processes of a node, each with a device, over which the tasks of a step are spread; those of torchrun or SLURM where these
            started the command, else new ones.
        nodes: Number of nodes; several are started by torchrun or SLURM.
        progress: Whether to show progress on stderr.

    Raises:
        ConfigError: If a number is not positive, or the accelerator is unknown.
    """

    max_epochs: int = 20
    steps_per_epoch: int = 10
    n_support: int = 10
    n_query: int = 10
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    progress: bool = False

    def __post_init__(self) -> None:
        for name in ("max_epochs", "steps_per_epoch", "n_support", "n_query", "learning_rate", "devices", "nodes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"Expected {name} above 0, found {getattr(self, name)}.")
        if self.accelerator not in ("auto", "cpu", "gpu"):
            raise ConfigError(f"Expected the accelerator 'auto', 'cpu' or 'gpu', found {self.accelerator!r}.")

    @property
    def device(self) -> str:
        """Where it runs."""
        use_gpu = self.accelerator == "gpu" or (self.accelerator == "auto" and torch.cuda.is_available())
        return "cuda" if use_gpu else "cpu"


class LabelledLoss(nn.Module):
    """Cross-entropy of a linear head on the pooled vector: a batch and its classes in, a scalar out.

    Args:
        encoder: The encoder.
        n_classes: Number of classes.
    """

    def __init__(self, encoder: AbstractEncoder, n_classes: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.pooled_width, n_classes)

    def forward(self, labelled: tuple[Any, Int[Tensor, "B"]]) -> Float[Tensor, ""]:
        """The loss of rows and their classes."""
        batch, labels = labelled
        return F.cross_entropy(self.head(self.encoder(batch).pooled), labels)


def meta_train(
    sources: Sequence[Source],
    *,
    encoder: AbstractEncoder | None = None,
    objective: AbstractObjective | None = None,
    strategy: Strategy | None = None,
    builder: AbstractBuilder | None = None,
    settings: MetaSettings | None = None,
    target: Cohort | None = None,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
) -> Model:
    """Learn from several sources what a target is to start from.

    Sources may differ in site, atlas, size and label. Every step draws a task of each. Where the sources have a target the tasks are to predict it;
    with an objective, labels are never read.

    Given a folder, the state after every meta-epoch is in `folder/last.ckpt`; the same call after a kill goes on from there and ends with the same
    numbers. A loss that is not finite stops the run; the state before that step is then in `folder/stopped.ckpt`.

    Args:
        sources: What to learn from; leave the target's subjects out.
        encoder: The encoder whose arguments to use, with new weights; a `GraphTransformer` when left out.
        objective: What to learn without labels; the default of the encoder where sources have no target either.
        strategy: How to learn; second-order MAML when left out. `STRATEGIES` has the five that are compared.
        builder: How connectomes or records are made; fitted here, as in `SourceBatches`.
        settings: How long, how fast and on what tasks.
        target: Subjects of the target, whose labels are not read: for weightings by agreement with it.
        seed: Seed of weights, tasks, masks and dropout.
        folder: Where checkpoints go.

    Returns:
        A model for `finetune`, with the head of the sources where they have a target; its history has a row a meta-epoch, with loss and weight of
        each source, and its `update` is what a step does where that was learned (generated rates, Meta-SGD).

    Raises:
        DataError: If sources have no common target, or too few subjects for a task.
        ConfigError: If a weighting needs the target and none is given, or the encoder cannot be in an inner loop.
        CheckpointError: If the checkpoint is damaged.
        RunFolderError: If it belongs to another run.
        GraphSSLError: If the loss of a task is not finite; the task is named.
    """
    strategy, settings = strategy or MetaLearning(), settings or MetaSettings()
    chosen = [strategy.choose(sources)] if isinstance(strategy, SingleSource) else list(sources)
    learned = [Source(source.name, source.cohort) for source in chosen] if objective is not None else chosen
    sampler = TaskSampler(learned, settings.n_support, settings.n_query, seed)
    encoder = encoder or GraphTransformer()
    batches = SourceBatches(learned, builder or encoder.default_builder())
    if isinstance(strategy, MetaLearning) and not batches.keeps_apart:
        raise ConfigError(
            f"Expected two or more sources for meta-learning in a population, found {learned[0].name!r} alone: patients of a task are attached to "
            "those of other sources, so that its query is not in the graph of its support. Give more sources, or take the strategy JointTraining."
        )
    encoder = fresh(encoder.for_builder(batches.builder_), seed)
    given = (sampler, batches, strategy, settings, seed, target, encoder, objective, None if folder is None else Path(folder))
    is_spread = settings.devices * settings.nodes > 1
    run = _Run(Processes(device="cpu" if is_spread else settings.device), *given)
    if isinstance(strategy, DirectLearning):
        return run.model()
    run.resume()
    if is_spread and (run.epochs_left or cluster() is not None):  # the other processes may have found another checkpoint
        run.take_up(_of_processes(given, settings))
    elif run.epochs_left:
        run.train()
    return run.model()


class _Run:
    """One meta-training: what is trained, and what it is trained on."""

    def __init__(
        self,
        processes: Processes,
        sampler: TaskSampler,
        batches: SourceBatches,
        strategy: Strategy,
        settings: MetaSettings,
        seed: int,
        target: Cohort | None,
        encoder: AbstractEncoder,
        objective: AbstractObjective | None,
        folder: Path | None,
    ) -> None:
        self.sampler, self.strategy, self.settings, self.seed, self.folder = sampler, strategy, settings, seed, folder
        self.batches, self.processes = batches.to(processes.device), processes
        self.encoder, self.generator = copy.deepcopy(encoder), torch.Generator()
        encoder = self.encoder
        self.names = [source.name for source in sampler.sources]
        self.has_labels = sampler.sources[0].classes is not None
        n_classes = sampler.sources[0].n_classes
        weighting = getattr(strategy, "weighting", None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 1)
            self.objective = None if self.has_labels else _prepared(objective or default_objective(encoder), encoder)
            module = LabelledLoss(encoder, n_classes) if self.objective is None else EncoderLoss(encoder, self.objective, self.generator)
            self.module: nn.Module = module.to(processes.device)
            if isinstance(strategy, MetaLearning):
                self.loss, self.parameters = as_function(self.module, first_order=strategy.first_order)
            else:  # no inner loop, so whatever layer there is
                self.loss, self.parameters = self._loss_at_once, dict(self.module.named_parameters())
            update = strategy.update(self.parameters) if isinstance(strategy, MetaLearning) else None
            self.update = update.to(processes.device) if isinstance(update, nn.Module) else update
            self.weighting: AbstractWeighting = copy.deepcopy(weighting or EqualWeights()).prepare(len(self.names)).to(processes.device)
            self.agreement = _Agreement(self, target) if self.weighting.needs_target else None
        self.trained = nn.ModuleList([self.module, self.weighting, *([self.update] if isinstance(self.update, nn.Module) else [])])
        self.optimizer = _optimizer(self.trained, settings)
        self.schedule = WarmupCosine(settings.max_epochs * settings.steps_per_epoch)
        self.history: list[dict[str, float]] = []
        self.fingerprint = self._fingerprint()

    @property
    def epochs_left(self) -> int:
        """Meta-epochs that are not done."""
        return self.settings.max_epochs - len(self.history)

    def train(self) -> None:
        """The meta-epochs that are left."""
        settings = self.settings
        with torch.random.fork_rng(), _Progress(settings, self.names, shown=self.processes.rank == 0) as shown:
            self.trained.train()
            path = choose_path(self.loss, self.parameters, self._sides(self._own(self.sampler.draw(0)))) if self.update is not None else None
            for epoch in range(len(self.history), settings.max_epochs):
                losses = []
                for step in range(epoch * settings.steps_per_epoch, (epoch + 1) * settings.steps_per_epoch):
                    tasks = self.sampler.draw(step)
                    losses.append(self._step(tasks, step, path))
                self._note(epoch, torch.stack(losses).mean(dim=0), tasks, path)
                self._save(LAST)
                shown.update(self.history[-1])

    def model(self) -> Model:
        """What was learned."""
        first, card = self.sampler.sources[0], self._card()
        update = self.update.cpu().requires_grad_(False) if isinstance(self.update, nn.Module) else None
        model = Model(self.batches.builder_, self.encoder.cpu().eval(), history=pd.DataFrame(self.history), card=card, update=update)
        if not isinstance(self.module, LabelledLoss) or isinstance(self.strategy, DirectLearning):
            return model
        assert first.classes is not None
        assert first.target is not None
        return model.with_head(self.module.head.cpu(), first.classes, first.target)

    def _step(self, tasks: list[Task], step: int, path: Any) -> Float[Tensor, "S"]:
        """One step of the optimiser; the loss of each source."""
        step_seed = nth_seed(self.seed, step)
        own_seed = seed_of_process(step_seed, self.processes.rank)  # tasks of other processes have other masks
        torch.manual_seed(own_seed)
        self.generator.manual_seed(own_seed)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self.schedule(step)
        self.optimizer.zero_grad()
        try:
            if self.agreement is not None:
                self.weighting.note_gradients(*self.agreement.gradients(tasks, step_seed))
            losses = self._losses(tasks, path)
            _check_gradients(self.trained, tasks)
        except GraphSSLError as error:
            self._save(STOPPED)
            kept = "" if self.folder is None else f" The state before it is in {self.folder / STOPPED}."
            raise GraphSSLError(f"{error} It was step {step} of the meta-training.{kept}") from error
        self.optimizer.step()
        if self.objective is not None:
            self.objective.after_step(self.encoder, (step + 1) / self.schedule.n_steps)
        self.processes.copy_of_first(self.module.buffers())
        return losses

    def _losses(self, tasks: list[Task], path: Any) -> Float[Tensor, "S"]:
        """Losses of the sources; gradients of what a step minimises are then in place."""
        own = self.processes.together(self._own_losses, self._own(tasks), path)
        losses = self.processes.gathered(own, len(tasks))
        if losses.requires_grad:
            self.weighting(losses).backward()
        learned = [self.module, *([self.update] if isinstance(self.update, nn.Module) else [])]
        self.processes.add_gradients(parameter for part in learned for parameter in part.parameters())
        return losses.detach()

    def _own_losses(self, tasks: list[Task], path: Any) -> Float[Tensor, "s"]:
        """Losses of this process's tasks, to be differentiated; of Reptile its gradient is then in place, for it has no such loss."""
        if not tasks:
            return torch.zeros(0, device=self.processes.device)
        sides, names, strategy = self._sides(tasks), [task.source for task in tasks], self.strategy
        support, query = ([side[k] for side in sides] for k in (0, 1))
        if not isinstance(strategy, MetaLearning):
            # As many subjects as a task has, all of them learned from.
            losses = torch.stack([(self.loss(self.parameters, a) + self.loss(self.parameters, b)) / 2 for a, b in sides])
            _check_losses(losses, names)
            return losses
        assert self.update is not None
        inner = strategy.inner(self.update, self.parameters)
        if strategy.algorithm != "reptile":
            return query_losses(self.loss, self.parameters, support, query, inner, path=path, names=names)
        found = reptile_gradients(self.loss, self.parameters, support, inner, path=path, names=names)
        for name, parameter in self.parameters.items():
            parameter.grad = found[name] * (len(tasks) / len(self.names))
        with torch.no_grad():
            return torch.stack([self.loss(self.parameters, batch) for batch in query])

    def _loss_at_once(self, _: Parameters, batch: Any) -> Tensor:
        """The loss at the module's own parameters."""
        loss: Tensor = self.module(batch)
        return loss

    def _own(self, tasks: list[Task]) -> list[Task]:
        """Those of a step's tasks that this process takes."""
        return [tasks[place] for place in self.processes.share(len(tasks))]

    def _sides(self, tasks: list[Task]) -> list[tuple[Any, Any]]:
        """Support and query of each task: rows with their classes, or rows alone."""
        pairs = [(self.batches.support(task), self.batches.query(task)) for task in tasks]
        return pairs if self.has_labels else [(support[0], query[0]) for support, query in pairs]

    def _note(self, epoch: int, losses: Float[Tensor, "S"], tasks: list[Task], path: Any) -> None:
        """A row of the history: the mean loss, and loss, weight and inner rates of each source."""
        row = {"epoch": float(epoch), "loss": float(losses.mean())}
        columns = {"loss": losses, "weight": self.weighting.weights()}
        if isinstance(self.update, AdaptiveStep):
            alpha, beta = self._rates(self.update, tasks, path)
            columns |= {"learning_rate": alpha.mean(dim=1), "weight_decay": beta.mean(dim=1)}
        for what, values in columns.items():
            row |= {f"{what} {name}": float(value) for name, value in zip(self.names, values, strict=True)}
        self.history.append(row)

    def _rates(self, update: AdaptiveStep, tasks: list[Task], path: Any) -> tuple[Float[Tensor, "S m"], Float[Tensor, "S m"]]:
        """Learning rate and weight decay of each tensor in the first inner step of each task."""
        support = [side[0] for side in self._sides(self._own(tasks))]
        nothing = torch.zeros(0, len(update.names), device=self.processes.device)
        rates = rates_of_tasks(update, self.loss, self.parameters, support, path=path) if support else (nothing, nothing)
        alpha, beta = (self.processes.gathered(found, len(tasks)) for found in rates)
        return alpha, beta

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "fingerprint": self.fingerprint,
            "weights": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }

    def take_up(self, state: dict[str, Any]) -> None:
        """Go on from a state."""
        self.trained.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.history = list(state["history"])

    def _save(self, name: str) -> None:
        if self.folder is None or self.processes.rank > 0:
            return
        with file_written_whole(self.folder / name) as aside:
            torch.save(self.state(), aside)

    def resume(self) -> None:
        """Take up the last checkpoint, where there is one."""
        path = None if self.folder is None else self.folder / LAST
        state = read_checkpoint(path) if path is not None and path.is_file() else None
        if not self.processes.same(None if state is None else len(state["history"])):
            raise RunFolderError(
                f"Expected every process to find the same checkpoint in {self.folder}, found others. Give a folder that all nodes share."
            )
        if path is None or state is None:
            return
        if state.get("fingerprint") != self.fingerprint:
            raise RunFolderError(
                f"Expected the checkpoint of this meta-training in {path.parent}, found one of another run (other data, settings or strategy). "
                "Choose another run name, or remove the folder."
            )
        self.take_up(state)

    def _fingerprint(self) -> str:
        """Hash of what decides the numbers."""
        plain = {key: value for key, value in asdict(self.settings).items() if key not in ("progress", "accelerator", "devices", "nodes")}
        told = [plain, self.seed, repr(self.strategy), repr(self.objective), self.names, f"{type(self.encoder).__name__} {self.encoder.arguments()}"]
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        for batch in (*self.batches.batches.values(), *([self.agreement.batch] if self.agreement is not None else [])):
            digest.update(batch.signature())
        for value in self.trained.state_dict().values():
            digest.update(value.detach().double().sum().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _card(self) -> dict[str, Any]:
        known = ", ".join(f"{source.name} ({len(source.labels)} subjects)" for source in self.sampler.sources)
        what = f"labels {self.sampler.sources[0].target!r}" if self.has_labels else repr(self.objective)
        return {"meta-trained on": known, "strategy": repr(self.strategy), "learned": what, "seed": self.seed}


def _of_processes(given: Sequence[Any], settings: MetaSettings) -> dict[str, Any]:
    """The state that training in several processes ends in."""
    started = cluster()
    with tempfile.TemporaryDirectory() as folder:
        kind = "gpu" if settings.device == "cuda" else "cpu"
        error = launch(_train_together, (Path(folder), *given), accelerator=kind, devices=settings.devices, nodes=settings.nodes)
        if error is not None:
            raise error
        return read_checkpoint(Path(folder) / f"{0 if started is None else started.global_rank()}.ckpt")


def _train_together(fabric: Fabric, results: Path, *given: Any) -> GraphSSLError | None:
    """Train in one of several processes, and write the state at the end; or give back the error that all of them met."""
    run = _Run(Processes(fabric.global_rank, fabric.world_size, fabric.device), *given)
    try:
        run.resume()
        run.train()
    except GraphSSLError as error:
        return error  # raised here, its kind would not reach the process that waits
    torch.save(run.state(), results / f"{fabric.global_rank}.ckpt")
    return None


class _Agreement:
    """Gradients of an objective without labels, on the sources and on the target."""

    def __init__(self, run: _Run, target: Cohort | None) -> None:
        if target is None:
            raise ConfigError(f"Expected the target's subjects for {type(run.weighting).__name__}, found none. Give meta_train(target=…).")
        self.run, self.encoder = run, run.encoder
        self.objective = run.objective or _prepared(default_objective(run.encoder), run.encoder).to(run.processes.device)
        if len(target) < run.settings.n_query:
            raise DataError(f"Expected at least {run.settings.n_query} subjects of the target {target.name!r}, found {len(target)}.")
        self.batch = run.batches.of_target(target)

    def gradients(self, tasks: list[Task], seed: int) -> tuple[Float[Tensor, "S P"], Float[Tensor, "P"]]:
        """Of each source's query, and of as many of the target's rows."""
        run = self.run
        n_rows = len(run.batches.query(tasks[0])[0])
        chosen = torch.randperm(len(self.batch), generator=torch.Generator().manual_seed(seed))[:n_rows].sort().values
        queries = [run.batches.query(task)[0] for task in run._own(tasks)]
        rows = flat_gradients([self._gradients(batch, seed) for batch in (*queries, self.batch[chosen.tolist()].to(run.processes.device))])
        return run.processes.gathered(rows[:-1], len(tasks)), rows[-1]

    def _gradients(self, batch: Any, seed: int) -> Parameters:
        named = {name: parameter for name, parameter in self.encoder.named_parameters() if parameter.requires_grad}
        loss = self.objective(self.encoder, batch, torch.Generator().manual_seed(seed)).total
        found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
        return dict(zip(named, found, strict=True))


class _Progress:
    """A bar of meta-epochs on stderr, with the loss of each source."""

    def __init__(self, settings: MetaSettings, names: Sequence[str], *, shown: bool = True) -> None:
        self.settings, self.names, self.shown = settings, names, settings.progress and shown
        self.bar = Progress(*Progress.get_default_columns(), TextColumn("{task.fields[note]}"), console=Console(stderr=True))

    def __enter__(self) -> "_Progress":
        if self.shown:
            self.bar.start()
            self.task = self.bar.add_task("meta-training", total=self.settings.max_epochs, note="")
        return self

    def __exit__(self, *error: object) -> None:
        if self.shown:
            self.bar.stop()

    def update(self, row: dict[str, float]) -> None:
        """Show an epoch."""
        if self.shown:
            note = ", ".join(f"{name} {row[f'loss {name}']:.3f}" for name in self.names)
            self.bar.update(self.task, completed=int(row["epoch"]) + 1, note=f"loss {note}")


def _prepared(objective: AbstractObjective, encoder: AbstractEncoder) -> AbstractObjective:
    return objective.fresh().prepare(encoder)


def _optimizer(trained: nn.Module, settings: MetaSettings) -> torch.optim.Optimizer:
    parameters = [parameter for parameter in trained.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate)


def _check_losses(losses: Float[Tensor, "S"], names: Sequence[str]) -> None:
    strange = [f"{float(value)} in task {name!r}" for name, value in zip(names, losses.detach(), strict=True) if not value.isfinite()]
    if strange:
        raise GraphSSLError(f"Expected finite losses in every task, found {strange[0]}. Lower the learning rate, or look at the data of that task.")


def _check_gradients(trained: nn.Module, tasks: Sequence[Task]) -> None:
    """Clip the gradients, once they are known to be finite."""
    norm = nn.utils.clip_grad_norm_(trained.parameters(), _MAX_NORM)
    if not norm.isfinite():
        raise GraphSSLError(
            f"Expected finite gradients, found {float(norm)} on tasks of {', '.join(task.source for task in tasks)}. Lower the learning rates."
        )
