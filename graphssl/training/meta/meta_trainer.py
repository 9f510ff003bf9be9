"""One meta-training: what is trained on what, step by step, its history and its checkpoints."""

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn

from graphssl.data.cohort import Cohort
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError, GraphSSLError, RunFolderError
from graphssl.folders import file_written_whole
from graphssl.objectives.base import AbstractObjective
from graphssl.objectives.default import default_objective
from graphssl.processes import Processes
from graphssl.training.checkpoint import LAST, read_checkpoint
from graphssl.training.learner import WarmupCosine
from graphssl.training.meta.agreement import TargetAgreement
from graphssl.training.meta.epoch_bar import EpochBar
from graphssl.training.meta.generator import AdaptiveStep, rates_of_tasks
from graphssl.training.meta.inner import EncoderLoss, Parameters, as_function, choose_path, query_losses
from graphssl.training.meta.labelled_loss import LabelledLoss
from graphssl.training.meta.reptile import reptile_gradients
from graphssl.training.meta.reweighting import AbstractWeighting, EqualWeights
from graphssl.training.meta.settings import MetaSettings
from graphssl.training.meta.source_batches import SourceBatches
from graphssl.training.meta.strategies import DirectLearning, MetaLearning, Strategy
from graphssl.training.meta.tasks import Task, TaskSampler
from graphssl.training.model import Model
from graphssl.training.seeds import nth_seed, seed_of_process

STOPPED = "stopped.ckpt"
_MAX_NORM = 1.0


class MetaTrainer:
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
            self.agreement = self._agreement(target) if self.weighting.needs_target else None
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
        with torch.random.fork_rng(), EpochBar(settings, self.names, shown=self.processes.rank == 0) as shown:
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

    def _agreement(self, target: Cohort | None) -> TargetAgreement:
        """Gradients on sources and target, by which sources are weighted."""
        if target is None:
            raise ConfigError(f"Expected the target's subjects for {type(self.weighting).__name__}, found none. Give meta_train(target=…).")
        objective = self.objective or _prepared(default_objective(self.encoder), self.encoder).to(self.processes.device)
        return TargetAgreement(self.encoder, objective, self.batches, target, self.settings.n_query, self.processes)

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
