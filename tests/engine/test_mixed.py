"""Networks of which torch runs a part: as exact as torch, whatever is cut how, and the native engine runs the rest."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.mixed import Mixed
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.ops import masked_linear
from optprune_fast.runtime import native
from optprune_fast.testing.nets import Net
from optprune_fast.testing.tolerance import assert_as_accurate

BACKENDS = [backend for backend in ("native", "numba") if masked_linear.operation.missing(backend) is None]
pytestmark = pytest.mark.skipif(not BACKENDS, reason="neither a compiled module nor Numba")


def bent(m: nn.ModuleDict, x: Tensor) -> Tensor:
    y = m["n1"](m["a"](x)).tanh()
    y = m["n2"](m["b"](y)) + y  # both sides of the sum cross over
    return m["fc"](F.max_pool2d(y.relu(), 2).flatten(1))


def upwards(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return m["b"](m["up"](m["a"](F.interpolate(x, scale_factor=2)).relu()).tanh()).cumsum(1).mean((2, 3))


def two_inputs(m: nn.ModuleDict, x: Tensor, z: Tensor) -> Tensor:
    y = m["a"](x)
    return m["c"](y.cumsum(1) + m["b"](z).flip(1)) + y[:, :3] * z.cumsum(1)[:, :3]


NETS: dict[str, tuple[Callable[[], Net], tuple[tuple[int, ...], ...]]] = {
    "bent": (lambda: Net(bent, a=nn.Conv2d(2, 4, 3, padding=1), n1=nn.PReLU(4),
                               b=nn.Conv2d(4, 4, 3, padding=1), n2=nn.PReLU(), fc=nn.Linear(48, 3)),
                   ((2, 9, 7),)),
    "upwards": (lambda: Net(upwards, a=nn.Conv2d(2, 3, 3), up=nn.ConvTranspose2d(3, 2, 2, stride=2),
                            b=nn.Conv2d(2, 3, 3)), ((2, 4, 3),)),
    "two inputs": (lambda: Net(two_inputs, a=nn.Linear(6, 6), b=nn.Linear(5, 6), c=nn.Linear(6, 3)), ((6,), (5,))),
    "first": (lambda: Net(lambda m, x: m["b"](m["a"](x.cumsum(1)).relu()), a=nn.Linear(9, 8), b=nn.Linear(8, 3)),
              ((9,),)),
    "last": (lambda: Net(lambda m, x: m["a"](x).flip(1), a=nn.Linear(9, 3)), ((9,),)),
    "numbers": (lambda: Net(lambda m, x: m["b"](x * m["a"](x).argmax(1).float()[:, None]), a=nn.Linear(9, 8),
                            b=nn.Linear(9, 3)), ((9,),)),
}


def case_of(name: str, B: int) -> tuple[Net, tuple[Tensor, ...], Tensor]:
    torch.manual_seed(3)
    model = NETS[name][0]().eval()
    return model, tuple(torch.randn(B, *shape) for shape in NETS[name][1]), torch.randint(3, (B,))


def layout_of(model: Net) -> MaskLayout:
    """Without the transposed convolution, whose weight is torch's."""
    return MaskLayout.of(model, exclude=["layers.up.*"] if "up" in model.layers else [])


def masks_of(layout: MaskLayout, P: int = 3) -> PackedMasks:
    return random_masks(layout, round(0.4 * layout.n), candidate_seeds(7, 0, 5))[:P]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", NETS)
def test_outputs_and_objectives(name: str, backend: str, plain_loop) -> None:
    """Against float64, and against the general way for each objective."""
    model, inputs, targets = case_of(name, 37)
    layout = layout_of(model)
    ev = Evaluator(model, (inputs, targets), "mse_to_dense", backend=backend, layout=layout)
    masks, before = masks_of(layout), native.calls() if backend == "native" else {}
    same, exact = (plain_loop(model, masks, *inputs, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert_as_accurate(ev.outputs(masks), same, exact, terms=sum(layer.columns for layer in layout),
                       magnitude=max(1.0, float(exact.abs().max())))
    runner = ev._compiled.program(ev.batches.kinds[0].example)
    assert isinstance(runner, Mixed)
    assert {part.native for part in runner.parts} == {True, False}
    if backend == "native":
        kind = "population", native.isa()
        assert native.calls()[kind] - before[kind] >= sum(part.native for part in runner.parts)
    for objective in ("cross_entropy", "error", "kl_to_dense", "mse_to_dense"):
        mixed, general = (Evaluator(model, (inputs, targets), objective, backend=backend, layout=layout, plan=plan)
                          for plan in (True, False))
        mixed._compiled._graphs = ev._compiled._graphs
        assert objective == "error" or general(masks).std() > 0
        torch.testing.assert_close(mixed(masks), general(masks), rtol=1e-5, atol=1e-6)
        for key, value in mixed.metrics(masks).items():
            torch.testing.assert_close(value, general.metrics(masks)[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NETS)
def test_chunks_and_numbers_of_candidates(name: str) -> None:
    """Other candidates change no bit, and samples are cut alike for any number of them."""
    model, inputs, targets = case_of(name, 37)
    layout, found = layout_of(model), []
    masks = masks_of(layout, 5)
    graphs = None
    for memory in (1, 4000, 20_000, None):  # one sample and one candidate, some of them, all
        ev = Evaluator(model, (inputs, targets), backend=BACKENDS[0], layout=layout, memory=memory)
        graphs = ev._compiled._graphs = ev._compiled._graphs if graphs is None else graphs
        whole = ev(masks)
        assert torch.equal(whole, torch.cat([ev(mask) for mask in masks]))
        assert torch.equal(whole[:2], ev(masks[:2]))
        assert ev(masks[:0]).shape == (0,)
        assert ev.outputs(masks[:0]).shape == (0, 37, 3)
        found.append((whole, ev.outputs(masks)))
        runner = ev._compiled.program(ev.batches.kinds[0].example)
        assert isinstance(runner, Mixed)
        assert runner.bytes.samples_at_once(37) == {1: 1, None: 37}.get(memory, runner.bytes.samples_at_once(37))
    for one in found[1:]:
        for a, b in zip(one, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_moves_are_evaluated_as_moved_masks_and_weights_taken_anew() -> None:
    model, inputs, targets = case_of("bent", 9)
    mixed, general = (Evaluator(model, (inputs, targets), backend=BACKENDS[0], plan=plan) for plan in (True, False))
    parent, moves = masks_of(mixed.layout, 1), torch.tensor([[0, 70], [3, -1], [200, 201]])
    assert not mixed._compiled.starts_from_parents
    torch.testing.assert_close(mixed.moves(parent, moves), general.moves(parent, moves), rtol=1e-5, atol=1e-6)
    before = mixed(parent)
    with torch.no_grad():
        model.layers["n1"].weight.mul_(3)
    assert torch.equal(mixed(parent), before)
    for ev in (mixed, general):
        ev.refresh()
    assert not torch.equal(mixed(parent), before)
    torch.testing.assert_close(mixed(parent), general(parent), rtol=1e-5, atol=1e-6)


def test_explain_shows_the_parts() -> None:
    model, inputs, targets = case_of("bent", 9)
    ev = Evaluator(model, (inputs, targets), backend=BACKENDS[0])
    ev(masks_of(ev.layout))
    text = ev.explain()
    lines = [line.split() for line in text.splitlines()]
    assert "way      plan: 3 native parts, and 2 in torch" in text
    assert "times    of a mask, 9 samples" in text
    timed = {line[0]: [*line[:5], *line[6:]] for line in lines if line[0].isdigit()}
    assert timed["0"][:7] == ["0", BACKENDS[0], "many", "at", "once", "conv2d", "layers.a.weight"]
    assert timed["1"] == ["1", "torch", "one", "by", "one", "aten.prelu.default"]
    assert all(float(line[5]) > 0 for line in lines if line[0].isdigit())
    assert [line[0] for line in lines if line[-1:] == ["aten.prelu.default"]] == ["1", "3"]


def test_batches_of_which_one_needs_torch() -> None:
    """Sequences of six divide evenly by three, those of seven do not: then that pooling is torch's."""
    torch.manual_seed(0)
    model = Net(lambda m, x: m["b"](F.adaptive_avg_pool1d(m["a"](x), 3).flatten(1)), a=nn.Conv1d(2, 4, 1),
                b=nn.Linear(12, 3))
    data = [(torch.randn(n, 2, T), torch.randint(3, (n,))) for n, T in ((5, 6), (8, 7))]
    mixed, general = (Evaluator(model, data, backend=BACKENDS[0], plan=plan) for plan in (True, False))
    masks = masks_of(mixed.layout)
    torch.testing.assert_close(mixed(masks), general(masks), rtol=1e-5, atol=1e-6)
    assert [isinstance(mixed._compiled.program(kind.example), Mixed) for kind in mixed.batches.kinds] == [False, True]
    moves = torch.tensor([[0, 1]])
    torch.testing.assert_close(mixed.moves(masks[:1], moves), general.moves(masks[:1], moves), rtol=1e-5, atol=1e-6)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.fc = nn.Embedding(6, 4), nn.Linear(4, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc(self.words(tokens + 1) + self.words(tokens)).mean(1)


def test_computed_indices_are_looked_up_by_torch_which_checks_them() -> None:
    tokens, targets = torch.randint(5, (9, 4)), torch.randint(3, (9,))
    mixed, general = (Evaluator(Words(), (tokens, targets), backend=BACKENDS[0], plan=plan) for plan in (True, False))
    general._forward.state = mixed._forward.state
    torch.testing.assert_close(mixed(masks_of(mixed.layout)), general(masks_of(mixed.layout)), rtol=1e-5, atol=1e-6)
    tokens[3, 2] = 5
    with pytest.raises(IndexError):
        mixed(masks_of(mixed.layout))
