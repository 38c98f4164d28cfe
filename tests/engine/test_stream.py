"""Streamed data: the results of held data, and never more than a few batches in memory."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from optprune_fast.engine import batches as reading
from optprune_fast.engine import compiled
from optprune_fast.engine.batches import GROUP, collect, pieces
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.passes import Batches
from optprune_fast.engine.population import Population
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.runtime import native

N = 3 * GROUP + 45
WHOLE = pytest.param("native", marks=pytest.mark.skipif(native.missing("population") is not None, reason="no module"))
MOVES = torch.tensor([[0, 69], [5, -1], [30, 71]])


def model_and_data(samples: int = N) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 3)), torch.randn(samples, 9), torch.arange(
        samples) % 3


def masks_of(ev: Evaluator) -> PackedMasks:
    return random_masks(ev.layout, 40, candidate_seeds(3, 0, 4))


class Source:
    """Makes its batches when they are read, as a folder of files would, and knows how many are alive."""

    def __init__(self, inputs: Tensor, targets: Tensor | None, size: int) -> None:
        self.inputs, self.targets, self.size = inputs, targets, size
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
        self.most = self.passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        self.passes += 1
        for start in range(0, len(self.inputs), self.size):
            some = slice(start, start + self.size)
            base = self.inputs[some].clone()
            self.alive.add(base)
            self.most = max(self.most, len(self.alive))
            yield base, None if self.targets is None else self.targets[some].clone()
            del base


@pytest.fixture
def small_pieces(monkeypatch) -> None:
    """One group of samples a piece, whatever they weigh."""
    monkeypatch.setattr(reading, "PIECE_BYTES", 1)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("backend", ["torch", WHOLE])
@pytest.mark.parametrize("size", [1, 50, GROUP, N - 1, N, 2 * N])
def test_streamed_data_give_the_results_of_held_data(backend: str, size: int):
    model, x, y = model_and_data()
    held = Evaluator(model, (x, y), backend=backend)
    ev = Evaluator(model, DataLoader(TensorDataset(x, y), batch_size=size), backend=backend, stream=True)
    masks = masks_of(ev)
    same = torch.equal if backend == "native" else lambda a, b: torch.allclose(a, b, rtol=1e-6, atol=1e-7)
    assert (ev.samples, held.samples) == (N, N)
    assert same(ev(masks), held(masks))
    assert torch.allclose(ev.outputs(masks), held.outputs(masks), rtol=1e-6, atol=1e-7)
    assert same(ev.moves(masks[0], MOVES), held.moves(masks[0], MOVES))
    for name, value in held.metrics(masks).items():
        assert same(ev.metrics(masks)[name], value)
    for name, values in held.gradients(masks[0]).items():
        for ours, theirs in zip(ev.gradients(masks[0])[name], values, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-8)


def squared(outputs: Tensor, targets: Tensor | None) -> Tensor:
    return outputs.square().sum(1) + targets


def spread(outputs: Tensor, targets: Tensor | None) -> Tensor:
    return outputs.std() + targets.float().mean()


def error(outputs: Tensor, targets: Tensor | None) -> Tensor:
    """Not the objective that has this name already."""
    return outputs[:, 0] - targets


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("backend", ["torch", WHOLE])
@pytest.mark.parametrize("objective", ["error", "kl_to_dense", "mse_to_dense", squared, spread])
def test_every_objective_streams(backend: str, objective: str | Callable[..., Tensor]):
    model, x, y = model_and_data()
    ev = Evaluator(model, Source(x, y, 50), objective, backend, stream=True)
    held, masks = Evaluator(model, (x, y), objective, backend), masks_of(ev)
    assert torch.allclose(ev(masks), held(masks), rtol=1e-6, atol=1e-7)
    for name, value in held.metrics(masks).items():
        assert torch.allclose(ev.metrics(masks)[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("backend", ["torch", WHOLE])
def test_an_objective_of_the_caller_may_have_the_name_of_ours(backend: str):
    model, x, y = model_and_data(20)
    ev = Evaluator(model, (x, y), error, backend)
    masks = masks_of(ev)
    wanted = (ev.outputs(masks)[:, :, 0] - y).mean(1)
    assert torch.allclose(ev(masks), wanted, rtol=1e-5, atol=1e-6)
    assert torch.allclose(ev.moves(masks[0], MOVES[:1])[0], ev(ev.accept(masks[0], MOVES[0]))[0])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("backend", ["torch", WHOLE])
@pytest.mark.parametrize("objective", ["cross_entropy", "kl_to_dense", spread])
def test_a_few_batches_are_alive_at_a_time(backend: str, objective: str | Callable[..., Tensor]):
    model, x, y = model_and_data(40 * GROUP)
    source = Source(x, y, GROUP)
    ev = Evaluator(model, source, objective, backend, stream=True)
    masks = masks_of(ev)
    for call in (ev, ev.outputs, ev.metrics, lambda masks: ev.moves(masks[0], MOVES)):
        call(masks)
    if objective is not spread:
        ev.gradients(masks[0])
    assert source.most <= 4
    assert not source.alive
    views = [inputs[:1] for inputs, _ in source]
    assert len(source.alive) == len(views) == 40  # views would have shown


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("backend", ["torch", WHOLE])
def test_an_evaluation_is_one_pass_however_many_chunks(backend: str):
    model, x, y = model_and_data()
    source = Source(x, y, 50)
    ev = Evaluator(model, source, backend=backend, memory=1, stream=True)
    assert source.passes == 1
    masks = masks_of(ev)
    assert ev.plan(4).candidates == 1
    ev(masks)
    ev.outputs(masks)
    assert source.passes == 3


def test_pieces_are_what_held_data_are_cut_into(small_pieces):
    _, x, y = model_and_data()
    (whole,) = collect((x, y))
    wanted = [chunk.args[0] for chunk in whole.chunks(whole.piece)]
    for size in (1, 50, GROUP - 1, GROUP, 2 * GROUP + 1, N):
        found = [batch.args[0] for batch in pieces(collect([(x[i:i + size], y[i:i + size])])[0]
                                                   for i in range(0, N, size))]
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_batches_of_several_shapes_stream():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    data = [(torch.randn(n, 1, T), torch.arange(n) % 2) for n, T in ((3, 5), (4, 9), (2, 9), (40, 5))]
    held, ev = (Evaluator(model, data, backend="torch", stream=stream) for stream in (False, True))
    assert [batch.size for batch in ev.batches] == [3, 6, 40]
    masks = random_masks(ev.layout, 4, [1, 2])
    assert torch.allclose(ev(masks), held(masks), rtol=1e-6, atol=1e-7)
    assert sorted(kind.largest for kind in ev.batches.kinds) == [6, 40]


def test_examples_keep_apart_what_has_samples_and_what_has_none():
    batches = Batches(({"x": torch.randn(9, 2), "table": torch.zeros(3), "other": torch.zeros(4)}, None))
    assert batches.kinds[0].example.size == 5


# ---- memory-mapped data


@pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
def test_mapped_tensors_are_turned_piece_by_piece_and_never_copied_whole(tmp_path, monkeypatch, small_pieces):
    monkeypatch.setattr(compiled, "KEPT_BYTES", 1)
    model, x, y = model_and_data(10 * GROUP)
    mapped = torch.from_file(str(tmp_path / "x"), shared=True, size=x.numel(), dtype=x.dtype).view(x.shape)
    mapped.copy_(x)
    turned: weakref.WeakSet[Tensor] = weakref.WeakSet()
    seen: list[tuple[int, int]] = []
    turn = Population.turn

    def watched(self, args, samples, dense):
        assert args[0].untyped_storage().data_ptr() == mapped.untyped_storage().data_ptr()
        result = turn(self, args, samples, dense)
        turned.update(tensor for tensor in (result.narrow, result.wide) if tensor is not None)
        seen.append((samples, len(turned)))
        return result

    monkeypatch.setattr(Population, "turn", watched)
    for stream in (False, True):
        seen.clear()
        ev = Evaluator(model, (mapped, y), backend="native", stream=stream)
        masks = masks_of(ev)
        general = Evaluator(model, (x, y), backend="torch")(masks)
        assert torch.allclose(ev(masks), general, rtol=1e-5, atol=1e-6)
        assert {size for size, _ in seen} == {GROUP}
        assert max(alive for _, alive in seen) <= 2
    assert not turned


@pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
@pytest.mark.parametrize("objective", ["cross_entropy", "kl_to_dense"])
def test_held_inputs_are_turned_once_for_all_objectives(objective: str, monkeypatch):
    model, x, y = model_and_data()
    turned: list[int] = []
    turn = Population.turn
    monkeypatch.setattr(Population, "turn", lambda self, *args: turned.append(args[1]) or turn(self, *args))
    ev = Evaluator(model, (x, y), objective, "native")
    masks = masks_of(ev)
    found = ev.metrics(masks)
    ev(masks)
    assert turned == [N]
    general = Evaluator(model, (x, y), objective, "torch").metrics(masks)
    for name, value in general.items():
        assert torch.allclose(found[name], value, rtol=1e-5, atol=1e-6)


# ---- what cannot be streamed


@pytest.mark.parametrize("once", [iter, lambda data: (item for item in data), lambda data: map(tuple, data)])
def test_what_can_be_read_only_once_is_an_error(once: Callable[[object], object]):
    model, x, y = model_and_data()
    with pytest.raises(TypeError, match=r"an iterator can be read only once[\s\S]*data  [\s\S]*starts anew"):
        Evaluator(model, once([(x, y)]), backend="torch", stream=True)
    assert Evaluator(model, once([(x, y)]), backend="torch").samples == N  # held, once is enough


@pytest.mark.parametrize("backend", ["torch", WHOLE])
@pytest.mark.parametrize("change", ["fewer", "more", "shape", "nothing"])
def test_a_pass_that_gives_other_samples_than_the_first_is_an_error(backend: str, change: str):
    model, x, y = model_and_data(60)
    source = Source(x, y, 20)
    ev = Evaluator(model, source, backend=backend, stream=True)
    masks = masks_of(ev)
    ev(masks)
    source.inputs, source.targets, later = {
        "fewer": (x[:50], y[:50], 50), "nothing": (x[:0], y[:0], 0), "shape": (x[:, None], y, 60),
        "more": (torch.cat([x, x]), torch.cat([y, y]), 120)}[change]
    for call in (ev, ev.outputs, ev.metrics, lambda masks: ev.gradients(masks[0])):
        with pytest.raises(ValueError, match=rf"a later pass gave other samples[\s\S]*first  60\n  later  {later}"):
            call(masks)


@pytest.mark.parametrize(("x", "y", "kind", "text"), [
    (torch.randn(0, 9), torch.zeros(0), ValueError, "at least one sample"),
    (torch.randn(60, 9).index_fill(0, torch.tensor([55]), float("nan")), torch.arange(60) % 3, ValueError,
     "must not hold NaN"),
    (torch.randn(60, 9), torch.arange(57) % 3, ValueError, "the same number of samples"),
    (torch.randn(60, 9), torch.arange(60) % 3 + (torch.arange(60) == 55) * 7, ValueError, r"must lie in \[0, 3\)"),
    (torch.randn(60, 9), torch.rand(60), ValueError, "targets must be class indices"),
    (torch.randn(60, 9), torch.arange(60) % 2 == 0, ValueError, "targets must be class indices"),
    (torch.randn(60, 9), None, ValueError, "it needs targets"),
])
def test_the_first_pass_finds_what_is_wrong(x: Tensor, y: Tensor | None, kind: type[Exception], text: str):
    with pytest.raises(kind, match=text):
        Evaluator(model_and_data()[0], Source(x, y, 20), backend="torch", stream=True)


@pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
def test_a_later_pass_cannot_reach_outside_of_tables():
    """Kernels look classes and tokens up unchecked, so each pass is checked before they do."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(8, 3))
    source = Source(torch.randint(5, (30, 2)), torch.arange(30) % 3, 10)
    ev = Evaluator(model, source, backend="native", stream=True)
    masks = random_masks(ev.layout, 20, [1, 2])
    ev(masks)
    assert ev._compiled.ready
    source.targets = source.targets + 1
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 3\)"):
        ev(masks)
    source.inputs = source.inputs + 1
    for call in (ev, ev.outputs):
        with pytest.raises(ValueError, match=r"must lie in \[0, 5\)"):
            call(masks)


def test_losses_of_pieces_are_summed_with_their_weights():
    """Against float64: pieces and their sizes must not bias the mean."""
    model, x, y = model_and_data()
    ev = Evaluator(model, Source(x, y, 50), backend="torch", stream=True)
    with torch.no_grad():
        wanted = float(F.cross_entropy(model.double()(x.double()), y))
    assert float(ev(PackedMasks.full(ev.layout))) == pytest.approx(wanted, rel=1e-6)
