"""The four executors against plain nn.Module autograd, node by node, in float64."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from simulator.compute import choice
from simulator.compute.choice import ExecutorChoice
from simulator.compute.executors import Batch, BatchedExecutor, LoopExecutor, VmapExecutor
from simulator.problems.heads import CrossEntropy, MaskedSamples, MixedLearners, ScaledLogits
from simulator.rows import ModelFunction

NUM_CLASSES = 3
SIZES = [4, 0, 3, 1, 4, 2, 4]  # samples of every node; the rest of the batch is padding
BATCH = 4
NUM_MASKS = 9


class Tanh(nn.Module):
    """Not a chain of known layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 2), nn.Linear(2, NUM_CLASSES)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x.flatten(1))))


MODELS = {
    "mlp": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, NUM_CLASSES)
    ),
    "linear_chain": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(16, 3, bias=False), nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, NUM_CLASSES, bias=False)
    ),
    "logistic_regression": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, NUM_CLASSES)),
    "cnn": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, NUM_CLASSES)
    ),
    "tanh": Tanh,
}
HEADS = {
    "cross_entropy": CrossEntropy,
    "scaled_logits": ScaledLogits,
    "mixed_learners": partial(MixedLearners, 3),
    "masked_samples": MaskedSamples,
}
EXECUTORS = {
    "loop": LoopExecutor,
    "vmap": VmapExecutor,
    "chunked": partial(VmapExecutor, chunk=3),
    "batched": BatchedExecutor,
}
BATCHED_MODELS = {"mlp", "linear_chain", "logistic_regression"}
CASES = [
    (model, head, executor)
    for model in MODELS
    for head in HEADS
    for executor in EXECUTORS
    if (executor != "batched" or model in BATCHED_MODELS)
    and (model in ("mlp", "cnn") or head in ("cross_entropy", "mixed_learners"))
]
assert_equal = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12)


class World:
    """Random rows, hyperparameters and a padded batch for one model and head, and the oracle on them."""

    def __init__(self, model, head, dtype=torch.float64):
        rng = torch.Generator().manual_seed(0)
        self.module = MODELS[model]().to(dtype)
        self.function = ModelFunction(self.module)
        self.head_name, self.head = head, HEADS[head]()
        learners = self.head.num_learners
        n = len(SIZES)

        def draw(*shape):
            return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

        self.params = 0.5 * draw(n, self.function.layout.num_params * learners)
        num_hparams = {"cross_entropy": 0, "scaled_logits": NUM_CLASSES, "mixed_learners": 3}.get(head, NUM_MASKS)
        self.hparams = draw(n, num_hparams)
        self.vector = draw(*self.params.shape)
        weights = torch.rand(n, BATCH, generator=rng, dtype=torch.float64).to(dtype) + 0.1
        for node, size in enumerate(SIZES):
            weights[node, size:] = 0
        self.batch = Batch(
            inputs=draw(n, BATCH, 1, 4, 4),  # padding holds numbers as well
            labels=torch.randint(NUM_CLASSES, (n, BATCH), generator=rng),
            weights=weights,
            index=torch.randint(NUM_MASKS, (n, BATCH), generator=rng),
            sizes=SIZES,
        )

    def loss(self, node, row, hparams):
        """Loss of one node, written with functional_call and the definitions of the heads."""
        size = SIZES[node]
        x, y = self.batch.inputs[node, :size], self.batch.labels[node, :size]
        w, index = self.batch.weights[node, :size], self.batch.index[node, :size]
        if size == 0:
            return 0.0 * (row.sum() + hparams.sum())
        names = [name for name, _ in self.module.named_parameters()]
        shapes = [parameter.shape for parameter in self.module.parameters()]

        def outputs(part):
            tensors = part.split([shape.numel() for shape in shapes])
            named = {name: t.view(shape) for name, t, shape in zip(names, tensors, shapes, strict=True)}
            return functional_call(self.module, named, (x,))

        if self.head_name == "mixed_learners":
            mixture = torch.softmax(hparams, 0)
            chances = sum(mixture[k] * torch.softmax(outputs(part), 1) for k, part in enumerate(row.chunk(3)))
            return -(w * torch.log(chances[torch.arange(size), y])).sum()
        logits = outputs(row)
        if self.head_name == "scaled_logits":
            logits = logits * (NUM_CLASSES * torch.softmax(hparams, 0))
        nll = F.cross_entropy(logits, y, reduction="none")
        return (w * (nll * hparams[index] if self.head_name == "masked_samples" else nll)).sum()

    def losses(self):
        return torch.stack([self.loss(i, self.params[i], self.hparams[i]) for i in range(len(SIZES))])

    def gradients(self):
        params, hparams = self.params.clone().requires_grad_(), self.hparams.clone().requires_grad_()
        total = sum(self.loss(i, params[i], hparams[i]) for i in range(len(SIZES)))
        grads = torch.autograd.grad(total, (params, hparams), allow_unused=True)
        return grads[0], torch.zeros_like(hparams) if grads[1] is None else grads[1]

    def second_order(self):
        """Products of the Hessian of (params, hparams) with (vector, 0)."""
        num_params = self.params.shape[1]
        products = []
        for i in range(len(SIZES)):
            along = torch.cat([self.vector[i], torch.zeros_like(self.hparams[i])])
            products.append(torch.autograd.functional.hvp(*self.joint(i), along)[1])
        stacked = torch.stack(products)
        return stacked[:, :num_params], stacked[:, num_params:]

    def joint(self, node):
        """The loss of a node as a function of one vector, and where."""
        num_params = self.params.shape[1]
        point = torch.cat([self.params[node], self.hparams[node]])
        return lambda both: self.loss(node, both[:num_params], both[num_params:]), point


_worlds: dict[tuple[str, str], tuple[World, dict]] = {}


def world_of(model, head):
    """The world and the oracle's answers, made once."""
    if (model, head) not in _worlds:
        world = World(model, head)
        _worlds[model, head] = (
            world,
            {
                "losses": world.losses().detach(),
                "gradients": world.gradients(),
                "second_order": world.second_order(),
            },
        )
    return _worlds[model, head]


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    model, head, executor = request.param
    world, oracle = world_of(model, head)
    return world, oracle, EXECUTORS[executor](world.function, world.head)


def test_losses(case):
    world, oracle, executor = case
    losses = executor.losses(world.params, world.hparams, world.batch)
    assert losses.shape == (len(SIZES),)
    assert not losses.requires_grad
    assert_equal(losses, oracle["losses"])


def test_gradients_of_parameters_and_hyperparameters(case):
    world, oracle, executor = case
    for found, expected in zip(
        executor.gradients(world.params, world.hparams, world.batch), oracle["gradients"], strict=True
    ):
        assert_equal(found, expected)


def test_gradients_are_added_to_another_tensor_or_in_place(case):
    world, oracle, executor = case
    alpha = -0.3
    step = alpha * oracle["gradients"][0]
    out, params = world.vector.clone(), world.params.clone()
    executor.add_gradient_(out, params, world.hparams, world.batch, alpha)
    assert_equal(out, world.vector + step)
    assert_equal(params, world.params, rtol=0, atol=0)
    executor.add_gradient_(params, params, world.hparams, world.batch, alpha)
    assert_equal(params, world.params + step)
    # Buffers that are used again carry nothing over.
    again = world.params.clone()
    executor.add_gradient_(again, again, world.hparams, world.batch, alpha)
    assert torch.equal(again, params)


def test_second_order_products(case):
    world, oracle, executor = case
    products = executor.second_order(world.params, world.hparams, world.batch, world.vector)
    for found, expected in zip(products, oracle["second_order"], strict=True):
        assert_equal(found, expected, rtol=1e-11)


@pytest.mark.parametrize(
    ("model", "head"), [("logistic_regression", head) for head in HEADS] + [("cnn", "scaled_logits")]
)
def test_second_order_products_are_those_of_the_dense_hessian(model, head):
    world, _ = world_of(model, head)
    num_params = world.params.shape[1]
    products = VmapExecutor(world.function, world.head).second_order(
        world.params, world.hparams, world.batch, world.vector
    )
    node = 2
    matrix = torch.autograd.functional.hessian(*world.joint(node))
    expected = matrix[:, :num_params] @ world.vector[node]
    assert_equal(torch.cat([part[node] for part in products]), expected, rtol=1e-11)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("executor_name", ["loop", "vmap"])
def test_second_order_products_are_differences_of_gradients(head, executor_name):
    world, _ = world_of("mlp", head)
    executor = EXECUTORS[executor_name](world.function, world.head)
    epsilon = 1e-6

    def gradients(sign):
        return executor.gradients(world.params + sign * epsilon * world.vector, world.hparams, world.batch)

    products = executor.second_order(world.params, world.hparams, world.batch, world.vector)
    for found, plus, minus in zip(products, gradients(1), gradients(-1), strict=True):
        torch.testing.assert_close(found, (plus - minus) / (2 * epsilon), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("head", HEADS)
def test_the_derivative_by_logits_is_that_of_autograd(head):
    world, _ = world_of("mlp", head)
    learners = world.head.num_learners
    shape = (len(SIZES), *([learners] if learners > 1 else []), BATCH, NUM_CLASSES)
    logits = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    leaf = logits.clone().requires_grad_()
    (expected,) = torch.autograd.grad(world.head.loss(leaf, world.hparams, world.batch).sum(), leaf)
    assert_equal(world.head.logit_gradient(logits.clone(), world.hparams, world.batch), expected)


@pytest.mark.parametrize("executor_name", EXECUTORS)
@pytest.mark.parametrize("head", HEADS)
def test_batches_of_changing_shape_and_nodes(executor_name, head):
    """One executor serves minibatches, blocks and parts of the nodes, in float32 and float64."""
    world, oracle = world_of("mlp", head)
    executor = EXECUTORS[executor_name](world.function, world.head)
    expected = oracle["gradients"][0]
    for start, stop in ((0, 7), (2, 4), (1, 2), (0, 7)):
        out = torch.zeros_like(world.params[start:stop])
        part = world.batch.part(start, stop)
        executor.add_gradient_(out, world.params[start:stop], world.hparams[start:stop], part, 1.0)
        assert_equal(out, expected[start:stop])
    single = World("mlp", head, torch.float32)
    out = torch.zeros_like(single.params)
    executor.add_gradient_(out, single.params, single.hparams, single.batch, 1.0)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_logits_of_one_node_give_its_loss(head):
    world, oracle = world_of("cnn", head)
    executor = LoopExecutor(world.function, world.head)
    for node, size in enumerate(SIZES):
        if size == 0:
            continue
        batch = world.batch.node(node)
        logits = executor.logits(world.params[node], batch.inputs)
        assert logits.shape == ((3,) if head == "mixed_learners" else ()) + (size, NUM_CLASSES)
        assert_equal(world.head.loss(logits, world.hparams[node], batch), oracle["losses"][node])
        scores = world.head.predict(logits, world.hparams[node])
        assert_equal(torch.logsumexp(scores, dim=-1), torch.zeros(size, dtype=torch.float64))


def test_only_chains_of_linear_layers_are_written_out():
    assert {name for name in MODELS if BatchedExecutor.applies_to(ModelFunction(MODELS[name]()))} == BATCHED_MODELS
    ends_with_relu = nn.Sequential(nn.Flatten(), nn.Linear(16, NUM_CLASSES), nn.ReLU())
    assert not BatchedExecutor.applies_to(ModelFunction(ends_with_relu))


class TooLarge(LoopExecutor):
    """An executor for which the device's memory is too small."""

    def add_gradient_(self, *_):
        raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(("large", "left"), [("batched", "loop"), ("loop", "batched")])
def test_an_executor_that_runs_out_of_memory_is_not_chosen(large, left, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kinds = {"loop": LoopExecutor, "batched": BatchedExecutor, large: TooLarge}
    monkeypatch.setattr(choice, "EXECUTORS", kinds)
    world = World("logistic_regression", "cross_entropy")
    chosen = ExecutorChoice("auto", world.function, world.head)
    sample = (world.params, world.hparams, world.batch)
    assert chosen.choose(["first_order"], lambda: sample) == {"first_order": left}
