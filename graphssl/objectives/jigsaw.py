"""Tell in which order the patches of an image were laid, how each was turned, and which were blanked out."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from graphssl.data.image_batch import ImageBatch
from graphssl.encoders.base import AbstractEncoder
from graphssl.errors import ConfigError
from graphssl.objectives.base import AbstractObjective, Loss
from graphssl.objectives.map_decoder import of_images
from graphssl.objectives.patches import as_batch, cut_patches, draw_starts, patch_size
from graphssl.objectives.two_views import check_positive

_CANDIDATES = 10_000  # permutations looked through where all are too many
_SEED = 0  # of these candidates, so that a permutation's number means the same in every run


class Puzzle(NamedTuple):
    """What is drawn of a puzzle.

    Attributes:
        order: Number of the permutation `[B]`.
        starts: First voxel of each cell's patch `[B, K, R]`.
        turned: Which laid patches are turned about the vertical and about the horizontal axis `[B, K, 2]`.
        blanked: Which laid patches lose voxels `[B, K]`.
        lost: Which voxels they lose `[B, K, 1, *P]`.
    """

    order: Int[Tensor, "B"]
    starts: Int[Tensor, "B K R"]
    turned: Bool[Tensor, "B K 2"]
    blanked: Bool[Tensor, "B K"]
    lost: Bool[Tensor, "B K 1 *P"]


class Jigsaw(AbstractObjective):
    """Cut an image by a grid, lay the patches in one of a fixed set of orders, and tell which (Noroozi & Favaro, ECCV 2016).

    Every patch goes through the encoder and one small projection; the order is told from all of them. With `rotations` patches are also turned by
    half about the vertical or the horizontal axis, and that is told too (Rubik's cube, Zhuang et al., MICCAI 2019); with `blanks` some also lose half
    of their voxels, and that is told (Rubik's cube+, Zhu et al., Medical Image Analysis 2020). In 2D a half turn about an axis in the image mirrors
    it. These heads are linear: deeper ones take the order's place (Zhang, Zheng & Gu, 2022, arXiv 2209.12157).

    Args:
        grid: Cells by axis; three along each of images, two along each of volumes, and none along the time of clips when left out.
        n_orders: Number of orders, far from one another: as many as there are at most.
        rotations: Whether patches are turned.
        blanks: Whether patches lose voxels.
        jitter: Voxels by which a patch can move within its cell.
        width: Width of the projection of a patch.
        hidden: Width of the inner layers of the head of orders.

    Raises:
        ConfigError: If a number is not positive, or the grid has fewer than two cells.
    """

    orders: Tensor

    def __init__(
        self,
        grid: Sequence[int] | None = None,
        n_orders: int = 100,
        rotations: bool = False,
        blanks: bool = False,
        jitter: int = 1,
        width: int = 64,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        check_positive(n_orders=n_orders, width=width, hidden=hidden, jitter=jitter + 1)
        if grid is not None and (min(grid) < 1 or math.prod(grid) < 2):
            raise ConfigError(f"Expected a grid of two cells or more, found {list(grid)}.")
        self.grid = None if grid is None else tuple(grid)
        self.n_orders, self.rotations, self.blanks = n_orders, rotations, blanks
        self.jitter, self.width, self.hidden = jitter, width, hidden

    @property
    def reads_maps(self) -> bool:
        """No: it reads pooled vectors."""
        return False

    def prepare(self, encoder: AbstractEncoder) -> "Jigsaw":
        """Choose the orders, and make the projection and the heads.

        Raises:
            ConfigError: If the encoder is none of images of one rank, or the grid has another rank.
        """
        rank = of_images(encoder, "a jigsaw").rank
        self.cells = self.grid or (2 if rank == 3 else 3,) * rank
        if len(self.cells) != rank:
            raise ConfigError(f"Expected a grid of {rank} axes for {type(encoder).__name__}, found {list(self.cells)}.")
        n = math.prod(self.cells)
        self.register_buffer("orders", distant_orders(n, self.n_orders))
        self.projector = nn.Sequential(nn.Linear(encoder.pooled_width, self.width), nn.BatchNorm1d(self.width), nn.ReLU())
        inner = [nn.Linear(n * self.width, self.hidden), nn.ReLU(), nn.Linear(self.hidden, self.hidden), nn.ReLU()]
        self.order_head = nn.Sequential(*inner, nn.Linear(self.hidden, len(self.orders)))
        if self.rotations:
            self.turn_head = nn.Linear(n * self.width, 2 * n)
        if self.blanks:
            self.blank_head = nn.Linear(n * self.width, n)
        return self

    def draw(self, batch: ImageBatch, generator: torch.Generator) -> Puzzle:
        """Choose order, places, turns and blanks of each image."""
        size = patch_size(batch.shape[2:], self.cells, self.jitter)
        n_rows, n = len(batch), math.prod(self.cells)
        order = torch.randint(len(self.orders), (n_rows,), generator=generator)
        starts = draw_starts(n_rows, batch.shape[2:], self.cells, self.jitter, generator)
        turned = torch.rand(n_rows, n, 2, generator=generator) < (0.5 if self.rotations else 0.0)
        blanked = torch.rand(n_rows, n, generator=generator) < (0.5 if self.blanks else 0.0)
        voxels = torch.rand(n_rows, n, 1, *size, generator=generator) < 0.5 if self.blanks else torch.zeros(n_rows, n, 1, *size, dtype=torch.bool)
        return Puzzle(order, starts, turned, blanked, voxels & blanked.view(n_rows, n, 1, *(1,) * len(size)))

    def lay(self, batch: ImageBatch, draw: Puzzle) -> Float[Tensor, "B K C *P"]:
        """The laid patches: at place `k` the patch of cell `orders[order, k]`, turned and blanked out."""
        size = patch_size(batch.shape[2:], self.cells, self.jitter)
        order = self.orders.cpu()[draw.order]  # [B, K]
        starts = draw.starts.gather(1, order.unsqueeze(2).expand_as(draw.starts))
        patches = cut_patches(batch.images, starts, size)
        turned = draw.turned.to(batch.device)
        for axis, flipped in enumerate(_half_turns(len(size))):
            chosen = turned[:, :, axis].view(*turned.shape[:2], 1, *(1,) * len(size))
            patches = torch.where(chosen, patches.flip(flipped), patches)
        return patches.masked_fill(draw.lost.to(batch.device), 0.0)

    def forward(self, encoder: AbstractEncoder, batch: ImageBatch, generator: torch.Generator) -> Loss:
        """Cross-entropy of the order, and of turns and blanks where there are any, all of weight 1.

        Raises:
            ConfigError: If `prepare` was not called.
            DataError: If images are too small for the grid.
        """
        self.check_prepared("orders")
        drawn = self.draw(batch, generator)
        patches = as_batch(self.lay(batch, drawn), batch)
        projected = self.projector(encoder(patches).pooled).view(len(batch), -1)  # [B, K D]
        logits, target = self.order_head(projected), drawn.order.to(batch.device)
        losses = {"order": F.cross_entropy(logits, target)}
        parts = {"order_accuracy": (logits.detach().argmax(dim=1) == target).float().mean()}
        told = {"turn": (self.rotations, drawn.turned), "blank": (self.blanks, drawn.blanked)}
        for name, labels in ((name, labels) for name, (asked, labels) in told.items() if asked):
            answer, truth = self.get_submodule(f"{name}_head")(projected), labels.flatten(start_dim=1).to(batch.device)
            losses[name] = F.binary_cross_entropy_with_logits(answer, truth.float())
            parts[f"{name}_accuracy"] = ((answer.detach() > 0) == truth).float().mean()
        return Loss(torch.stack(list(losses.values())).sum(), parts)


def distant_orders(n_cells: int, n_orders: int) -> Int[Tensor, "n_orders K"]:
    """Orders of a number of things that differ in as many places as can be, chosen one after the other (Noroozi & Favaro, 2016, algorithm 1).

    The next is the one that is farthest, on average, from those chosen. All orders are looked through up to eight things, ten thousand random ones
    above.

    Args:
        n_cells: Number of things.
        n_orders: Orders wanted; all where there are fewer.
    """
    generator = torch.Generator().manual_seed(_SEED)
    if math.factorial(n_cells) <= math.factorial(8):
        candidates = _all_orders(n_cells)
        candidates = candidates[torch.randperm(len(candidates), generator=generator)]
    else:
        candidates = torch.rand(_CANDIDATES, n_cells, generator=generator).argsort(dim=1)
    distance, next_one, chosen = torch.zeros(len(candidates)), 0, []
    for _ in range(min(n_orders, len(candidates))):
        chosen.append(next_one)
        distance += (candidates != candidates[next_one]).sum(dim=1)
        distance[next_one] = -math.inf
        next_one = int(distance.argmax())
    return candidates[chosen]


def _all_orders(n: int) -> Int[Tensor, "F n"]:
    orders = torch.zeros(1, 0, dtype=torch.long)
    for k in range(n):  # the new thing at each of the k + 1 places
        orders = torch.cat([torch.cat([orders[:, :at], torch.full((len(orders), 1), k), orders[:, at:]], dim=1) for at in range(k + 1)])
    return orders


def _half_turns(rank: int) -> list[tuple[int, ...]]:
    """Axes that are flipped by half a turn about the vertical and about the horizontal axis of the image."""
    return [(-1,), (-2,)] if rank == 2 else [(-3, -1), (-3, -2)]
