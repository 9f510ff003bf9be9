"""Inner loops: closed forms, finite differences, all tasks at once against one after the other, and every refusal."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from graphssl.encoders import GAT, GCN, MLP, GraphTransformer
from graphssl.errors import ConfigError, DataError, GraphSSLError
from graphssl.objectives import MaskedRegions, Supervised
from graphssl.training.meta import (
    EncoderLoss,
    GradientStep,
    InnerLoop,
    LabelledLoss,
    adapt,
    adapted_parameters,
    as_function,
    check_adaptable,
    choose_path,
    query_losses,
    stack,
)


def squared(parameters, batch):
    """Half the squared distance of the parameter to a point."""
    return 0.5 * (parameters["theta"] - batch).square().sum()


def network_loss(parameters, batch):
    x, y = batch
    return (torch.tanh(x @ parameters["first"]) @ parameters["second"] - y).square().mean()


def network(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    made = {"first": torch.randn(3, 4, generator=generator, dtype=dtype), "second": torch.randn(4, generator=generator, dtype=dtype)}
    return {name: tensor.requires_grad_() for name, tensor in made.items()}


def regression_tasks(n_tasks=3, n=5, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(n, 3, generator=generator, dtype=dtype), torch.randn(n, generator=generator, dtype=dtype)) for _ in range(n_tasks)]


def labelled(make_batch, seeds, n=4, regions=6):
    return [(make_batch(n, regions, seed=seed), torch.tensor([0, 1] * (n // 2))) for seed in seeds]


def meta_gradient(loss, parameters, support, query, inner, path):
    losses = query_losses(loss, parameters, support, query, inner, path=path)
    return losses.detach(), torch.autograd.grad(losses.sum(), list(parameters.values()), allow_unused=True, materialize_grads=True)


def assert_same(found, expected, tolerance=1e-5):
    assert torch.allclose(found[0], expected[0], atol=tolerance)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-3, atol=tolerance)


@pytest.mark.parametrize("path", ["vmap", "sequential"])
@pytest.mark.parametrize("first_order", [False, True])
def test_a_step_on_a_parabola_has_the_closed_form(path, first_order):
    theta, alpha, beta = torch.tensor([1.0, -2.0], requires_grad=True), 0.3, 0.2
    centre, target = [torch.tensor([0.5, 4.0]), torch.tensor([-1.0, 0.0])], [torch.tensor([2.0, 2.0]), torch.tensor([0.0, 1.0])]
    inner = InnerLoop(GradientStep(alpha, beta), first_order=first_order)
    losses, (gradient,) = meta_gradient(squared, {"theta": theta}, centre, target, inner, path)
    moved = [(1 - alpha * beta) * theta.detach() - alpha * (theta.detach() - c) for c in centre]
    assert torch.allclose(losses, torch.stack([0.5 * (m - t).square().sum() for m, t in zip(moved, target, strict=True)]))
    slope = (1 - alpha * beta) - (0 if first_order else alpha)  # dθ'/dθ
    assert torch.allclose(gradient, sum(slope * (m - t) for m, t in zip(moved, target, strict=True)))


@pytest.mark.parametrize("path", ["vmap", "sequential"])
def test_meta_gradients_agree_with_finite_differences(path):
    support, query = regression_tasks(seed=1), regression_tasks(seed=2)
    parameters = network()
    rates = {name: torch.full_like(tensor, 0.1).detach().requires_grad_() for name, tensor in parameters.items()}
    decay = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def losses(first, second, rate_first, rate_second, decay):
        step = GradientStep({"first": rate_first, "second": rate_second}, decay)
        return query_losses(network_loss, {"first": first, "second": second}, support, query, InnerLoop(step, n_steps=3), path=path)

    assert torch.autograd.gradcheck(losses, (*parameters.values(), *rates.values(), decay))


def test_adapted_parameters_are_those_of_ordinary_gradient_descent():
    support, parameters = regression_tasks(), network()
    inner = InnerLoop(GradientStep(0.05), n_steps=4)
    for path in ("vmap", "sequential", "auto"):
        found = adapted_parameters(network_loss, parameters, support, inner, path=path)
        for k, batch in enumerate(support):
            copies = {name: tensor.detach().clone().requires_grad_() for name, tensor in parameters.items()}
            optimiser = torch.optim.SGD(copies.values(), lr=0.05)
            for _ in range(4):
                optimiser.zero_grad()
                network_loss(copies, batch).backward()
                optimiser.step()
            alone = adapt(network_loss, parameters, batch, inner)
            for name, expected in copies.items():
                assert torch.allclose(found[name][k], expected)
                assert torch.allclose(alone[name], expected)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("kind", [GraphTransformer, MLP])
def test_all_tasks_at_once_give_the_numbers_of_one_after_the_other(make_batch, kind, first_order):
    torch.manual_seed(0)
    module = LabelledLoss(kind(width=8, depth=1, spacing_mm=40.0, dropout=0.0), 2)
    loss, parameters = as_function(module, first_order=first_order)
    support = labelled(make_batch, (0, 1), regions=6) + labelled(make_batch, (2,), regions=9)
    query = labelled(make_batch, (3, 4, 5), n=2, regions=7)
    inner = InnerLoop(GradientStep(0.1, 0.01), n_steps=2, first_order=first_order)
    assert choose_path(loss, parameters, list(zip(support, query, strict=True))) == "vmap"
    at_once = meta_gradient(loss, parameters, support, query, inner, "vmap")
    assert_same(at_once, meta_gradient(loss, parameters, support, query, inner, "sequential"))
    assert_same(at_once, meta_gradient(loss, parameters, support, query, inner, "auto"))


@pytest.mark.parametrize("kind", [GCN, GAT])
def test_sparse_encoders_go_one_after_the_other(make_batch, kind):
    torch.manual_seed(0)
    module = LabelledLoss(kind(width=8, depth=1, spacing_mm=40.0, dropout=0.0).double(), 2).double()
    loss, parameters = as_function(module)

    def double(tasks):
        return [(batch_of_doubles(batch), labels) for batch, labels in tasks]

    support, query = double(labelled(make_batch, (0, 1))), double(labelled(make_batch, (2, 3)))
    assert choose_path(loss, parameters, list(zip(support, query, strict=True))) == "sequential"
    inner = InnerLoop(GradientStep(0.1), n_steps=2)
    losses, gradients = meta_gradient(loss, parameters, support, query, inner, "auto")
    assert_directional_derivative(loss, parameters, support, query, inner, gradients)
    assert losses.shape == (2,)


def batch_of_doubles(batch):
    return replace(batch, weights=batch.weights.double(), centroids=batch.centroids.double())


def assert_directional_derivative(loss, parameters, support, query, inner, gradients, step=1e-5):
    """Along a random direction the sum of the losses changes as the gradients say."""
    generator = torch.Generator().manual_seed(0)
    direction = [torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) for tensor in parameters.values()]
    sums = []
    for sign in (1, -1):
        moved = {name: (tensor + sign * step * d).detach() for (name, tensor), d in zip(parameters.items(), direction, strict=True)}
        sums.append(query_losses(loss, moved, support, query, inner, path="sequential").detach().sum())
    expected = (sums[0] - sums[1]) / (2 * step)
    found = sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("path", ["vmap", "sequential"])
def test_attention_has_a_second_derivative_in_training_and_evaluation(make_batch, path, training, dropout):
    torch.manual_seed(0)
    module = LabelledLoss(GraphTransformer(width=8, depth=2, spacing_mm=40.0, dropout=dropout), 2).train(training)
    loss, parameters = as_function(module)
    support, query = labelled(make_batch, (0, 1)), labelled(make_batch, (2, 3))
    _, second = meta_gradient(loss, parameters, support, query, InnerLoop(GradientStep(0.5)), path)
    assert all(gradient.isfinite().all() for gradient in second)
    if not training:
        _, first = meta_gradient(loss, parameters, support, query, InnerLoop(GradientStep(0.5), first_order=True), path)
        assert any(not torch.allclose(a, b, rtol=1e-2) for a, b in zip(first, second, strict=True))


def test_dropout_differs_by_task_under_vmap():
    parameters = {"theta": torch.ones(50, requires_grad=True)}

    def loss(parameters, batch):
        return (F.dropout(parameters["theta"], 0.5) * batch).sum()

    batches = [torch.arange(50.0), torch.arange(50.0)]
    torch.manual_seed(0)
    losses = query_losses(loss, parameters, batches, batches, InnerLoop(GradientStep(0.0)), path="vmap")
    assert losses[0] != losses[1]


def test_an_objective_draws_from_its_generator(make_batch, make_encoder):
    encoder = make_encoder(dropout=0.0)
    objective = MaskedRegions().prepare(encoder)
    support, query = [make_batch(3, 8, seed=seed) for seed in (0, 1)], [make_batch(3, 8, seed=seed) for seed in (2, 3)]

    def losses(seed):
        module = EncoderLoss(encoder, objective, torch.Generator().manual_seed(seed))
        loss, parameters = as_function(module)
        assert any(name.startswith("objective.") for name in parameters)
        return query_losses(loss, parameters, support, query, InnerLoop(GradientStep(0.1)), path="sequential").detach()

    assert torch.equal(losses(0), losses(0))
    assert not torch.equal(losses(0), losses(1))


def test_an_objective_that_looks_labels_up_goes_one_after_the_other(make_batch, make_encoder):
    encoder = make_encoder(dropout=0.0)
    tasks = [replace(make_batch(4, 6, seed=k), subject_ids=tuple(f"{k}-{row}" for row in range(4))) for k in range(4)]
    labels = {subject: row % 2 for batch in tasks for row, subject in enumerate(batch.subject_ids)}
    module = EncoderLoss(encoder, Supervised(labels).prepare(encoder), torch.Generator())
    loss, parameters = as_function(module)
    inner = InnerLoop(GradientStep(0.1))
    assert choose_path(loss, parameters, list(zip(tasks[:2], tasks[2:], strict=True))) == "sequential"
    with pytest.raises(DataError, match="Expected a label for every subject"):
        query_losses(loss, parameters, tasks[:2], tasks[2:], inner, path="vmap")
    assert query_losses(loss, parameters, tasks[:2], tasks[2:], inner).isfinite().all()


def test_only_the_chosen_tensors_adapt_and_all_are_trained():
    parameters, support, query = network(), regression_tasks(seed=1), regression_tasks(seed=2)
    inner = InnerLoop(GradientStep(0.1), adapted=["second"])
    found = adapted_parameters(network_loss, parameters, support, inner)
    assert torch.equal(found["first"][0], parameters["first"])
    assert not torch.allclose(found["second"][0], parameters["second"])
    results = [meta_gradient(network_loss, parameters, support, query, inner, path) for path in ("vmap", "sequential")]
    assert_same(*results, tolerance=1e-10)
    assert all(gradient.abs().sum() > 0 for gradient in results[0][1])


def test_frozen_parameters_stay_out(make_batch, make_encoder):
    module = LabelledLoss(make_encoder(), 2)
    module.encoder.requires_grad_(False)
    loss, parameters = as_function(module)
    assert set(parameters) == {"head.weight", "head.bias"}
    support = labelled(make_batch, (0, 1))
    assert query_losses(loss, parameters, support, support, InnerLoop(GradientStep(0.1))).requires_grad


@pytest.mark.parametrize("path", ["vmap", "sequential"])
def test_a_loss_that_is_not_finite_names_task_and_step(path):
    parameters = {"theta": torch.tensor([1.0], requires_grad=True)}
    good, bad = torch.tensor([1.0]), torch.tensor([float("nan")])
    inner = InnerLoop(GradientStep(0.1), n_steps=2)
    with pytest.raises(GraphSSLError, match="found nan in task 'NYU' at inner step 1 of 2"):
        query_losses(squared, parameters, [good, bad], [good, good], inner, path=path, names=["UM", "NYU"])
    with pytest.raises(GraphSSLError, match="found nan in task 0 at the query after 2 inner steps"):
        query_losses(squared, parameters, [good, good], [bad, good], inner, path=path)
    with pytest.raises(GraphSSLError, match="found inf in task 0 at inner step 2 of 2"):
        query_losses(squared, parameters, [good + 1, good], [good, good], InnerLoop(GradientStep(1e30), n_steps=2), path=path)
    with pytest.raises(GraphSSLError, match="found nan in task 1 at inner step 1 of 2"):
        adapted_parameters(squared, parameters, [good, bad], inner, path=path)
    with pytest.raises(GraphSSLError, match="found nan in task 0"):
        adapt(squared, parameters, bad, inner)


def test_wrong_arguments_are_refused():
    parameters, support = network(), regression_tasks()
    inner = InnerLoop(GradientStep(0.1))
    with pytest.raises(ConfigError, match="at least one inner step, found n_steps=0"):
        InnerLoop(GradientStep(0.1), n_steps=0)
    with pytest.raises(ConfigError, match="one or more tasks, found 3 and 2"):
        query_losses(network_loss, parameters, support, support[:2], inner)
    with pytest.raises(ConfigError, match="'auto', 'vmap' or 'sequential', found 'loop'"):
        query_losses(network_loss, parameters, support, support, inner, path="loop")
    with pytest.raises(ConfigError, match=r"names of tensors to adapt among \['first', 'second'\], found \['third'\]"):
        query_losses(network_loss, parameters, support, support, InnerLoop(GradientStep(0.1), adapted=["third"]), path="sequential")
    with pytest.raises(ConfigError, match="Expected a learning rate for 'second', found those of \\['first'\\]"):
        query_losses(network_loss, parameters, support, support, InnerLoop(GradientStep({"first": 0.1})), path="sequential")
    with pytest.raises(ConfigError, match="Expected a weight decay for 'first'"):
        query_losses(network_loss, parameters, support, support, InnerLoop(GradientStep(0.1, {})), path="sequential")


def test_running_statistics_are_refused_with_the_way_out():
    module = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    with pytest.raises(ConfigError, match="found BatchNorm1d in '1', .*replace_all_batch_norm_modules_"):
        as_function(module)
    check_adaptable(module.eval())
    torch.func.replace_all_batch_norm_modules_(module.train())
    check_adaptable(module)


def test_softmax_layers_of_dgl_are_refused_at_second_order():
    nn_of_dgl = pytest.importorskip("dgl.nn.pytorch")
    module = nn.Sequential(nn.Linear(3, 3), nn_of_dgl.GATConv(3, 2, 1))
    with pytest.raises(ConfigError, match="found GATConv in '1'.*first_order=True"):
        check_adaptable(module)
    check_adaptable(module, first_order=True)
    check_adaptable(nn.Sequential(nn_of_dgl.GraphConv(3, 2)))


def test_stacked_tasks_are_not_copied_into_one_another(make_batch):
    batches = [make_batch(2, 4, seed=seed) for seed in (0, 1)]
    stacked = stack(batches)
    stacked.tensors["weights"][0] = 0
    assert batches[0].weights.abs().sum() > 0


ROWS, WIDTH = 5, 6


class Images(nn.Module):
    """A layer of images between layers of vectors."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        grid = torch.linspace(-1, 1, 6, dtype=x.dtype).view(2, 3)
        return self.layer(torch.tanh(x.view(ROWS, WIDTH, 1, 1) + grid)).mean(dim=(2, 3)) + x


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x):
        return self.attention(x[None], x[None], x[None], need_weights=False)[0][0]


class LayerLoss(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(4, WIDTH, bias=False), layer, nn.Tanh(), nn.Linear(WIDTH, 3))

    def forward(self, batch):
        x, y = batch
        return (self.network(x) - y).square().sum()


LAYERS = {
    "layer norm": lambda: nn.LayerNorm(WIDTH),
    "layer norm without bias": lambda: nn.LayerNorm(WIDTH, bias=False),
    "layer norm without weights": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "batch norm": lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False),
    "batch norm of images": lambda: Images(nn.BatchNorm2d(WIDTH, track_running_stats=False)),
    "instance norm": lambda: Images(nn.InstanceNorm2d(WIDTH, affine=True)),
    "group norm": lambda: nn.GroupNorm(2, WIDTH),
    "root mean square norm": lambda: nn.RMSNorm(WIDTH),
    "convolution": lambda: Images(nn.Conv2d(WIDTH, WIDTH, 3, padding=1)),
    "attention": Attention,
    "transformer": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 8, 0.0, batch_first=True, norm_first=True),
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "softmax": lambda: nn.Softmax(dim=-1),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_have_the_same_meta_gradient_mapped_as_one_task_after_the_other(name):
    torch.manual_seed(0)
    module = LayerLoss(LAYERS[name]()).double()
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    loss, parameters = as_function(module)
    tasks = [[(torch.randn(ROWS, 4).double(), torch.randn(ROWS, 3).double()) for _ in range(3)] for _ in range(2)]
    inner = InnerLoop(GradientStep(0.02), n_steps=2)
    found, expected = (
        torch.cat(
            [g.flatten() for g in torch.autograd.grad(query_losses(loss, parameters, *tasks, inner, path=path).sum(), list(parameters.values()))]
        )
        for path in ("vmap", "sequential")
    )
    assert torch.allclose(found, expected, rtol=1e-8, atol=1e-9 * expected.abs().max())
