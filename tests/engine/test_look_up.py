"""The first layer by table look-up: as accurate as torch, the same bits everywhere, and only where it is asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from optprune_fast.engine import look_up
from optprune_fast.engine.cost import Coefficients
from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.engine.population import Population
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP, LeNet5
from optprune_fast.plan import capture
from optprune_fast.plan.model import state_of
from optprune_fast.runtime import native
from optprune_fast.testing.tolerance import assert_as_accurate

pytestmark = pytest.mark.skipif(native.missing("look_up") is not None, reason="no compiled module")
USUAL = ("linear list", "linear words", "linear dense")
FREE = Coefficients(dict.fromkeys(USUAL, 1.0))  # look-up costs nothing: it is taken wherever it can be
DEAR = Coefficients({"look-up pick": 1.0})


@pytest.fixture(params=native.isas())
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn; the rule takes look-up wherever it can run."""
    monkeypatch.setenv("OPTPRUNE_ISA", request.param)
    monkeypatch.setattr(look_up, "COEFFICIENTS", dict.fromkeys(native.ISAS, FREE))
    return str(request.param)


def engine_of(model: nn.Module, inputs: Tensor) -> Population:
    layout = MaskLayout.of(model.eval())
    graph = capture(model, (torch.randn(3, *inputs.shape[1:]),), {}, layout)
    return Population(graph, layout, state_of(model), len(inputs))


def outputs(engine: Population, masks: PackedMasks, inputs: Tensor) -> Tensor:
    return engine.outputs(masks.words, engine.turn({0: inputs}, len(inputs), None))


def masks_of(model: nn.Module, P: int, share: float = 0.6) -> PackedMasks:
    layout = MaskLayout.of(model)
    return random_masks(layout, round(share * layout.n), candidate_seeds(7, 0, P))


def data_of(features: int = 70, B: int = 40) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return torch.randn(B, features), torch.randint(5, (B,))


def looked_up(work: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What it gives, and how many calls of the look-up kernel of the instruction set in use that took."""
    before = native.calls()
    result = work()
    rose = {key: n - before[key] for key, n in native.calls().items() if key[0] == "look_up" and n > before[key]}
    assert set(rose) <= {("look_up", native.isa())}
    return result, sum(rose.values())


# ---- the kernel


@pytest.mark.parametrize(("columns", "rows"), [(1, 3), (4, 1), (5, 2), (6, 7), (19, 5), (20, 5), (21, 5), (63, 4),
                                               (64, 4), (65, 4), (129, 33)])
def test_as_accurate_as_torch(isa: str, columns: int, rows: int, plain_loop: Callable[..., Tensor]) -> None:
    torch.manual_seed(columns)
    model = nn.Linear(columns, rows, bias=columns % 2 == 1).eval()
    layout, before = MaskLayout.of(model), native.calls()["look_up", isa]
    graph = capture(model, (torch.randn(3, columns),), {}, layout)
    sizes = [(1, 1), (15, 15), (16, 16), (17, 17), (64, 40), (65, 300)]
    for P, B in sizes:
        masks, inputs = masks_of(model, P), torch.randn(B, columns)
        found = outputs(Population(graph, layout, state_of(model), B).by_look_up, masks, inputs)
        torches, exact = (plain_loop(model, masks, inputs, dtype=dtype) for dtype in (torch.float32, torch.float64))
        magnitude = float((inputs.abs() @ model.weight.detach().abs().T).max()) + 1
        assert_as_accurate(found, torches, exact, terms=columns + 1, magnitude=magnitude)
    assert native.calls()["look_up", isa] == before + len(sizes)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh, nn.Hardswish, nn.Identity])
def test_activations_and_the_rest_of_the_network(isa: str, activation: type[nn.Module],
                                                 plain_loop: Callable[..., Tensor]) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(70, 33), activation(), nn.Linear(33, 9), activation(), nn.Linear(9, 5))
    inputs = data_of(B=150)[0]
    masks = PackedMasks.cat([masks_of(model, 40, share) for share in (0.0, 0.05, 0.5, 1.0)])
    found = outputs(engine_of(model, inputs).by_look_up, masks, inputs)
    torches, exact = (plain_loop(model, masks, inputs, dtype=dtype) for dtype in (torch.float32, torch.float64))
    assert_as_accurate(found, torches, exact, terms=70, magnitude=float(exact.abs().max()) + 1)


def test_every_instruction_set_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    model, inputs = MLP([83, 30, 5]), torch.randn(150, 83)
    masks, found = masks_of(model, 70), []
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        found.append(outputs(engine_of(model, inputs).by_look_up, masks, inputs))
    assert found[0].count_nonzero() > 0
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("rows", [30, 1000, 2500])  # so many that 64 candidates take more memory than a thread has
@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_bits_depend_on_nobody_beside_nor_on_threads(isa: str, rows: int, threads: str,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(2)
    model, inputs = MLP([23, rows, 3]), torch.randn(150, 23)
    masks, engine = masks_of(model, 70, 0.3), engine_of(model, inputs)
    monkeypatch.setenv("OPTPRUNE_THREADS", threads)
    together = outputs(engine.by_look_up, masks, inputs)
    alone = [outputs(engine.by_look_up, masks[p:p + 1], inputs) for p in (0, 16, 47, 48, 63, 64, 69)]
    assert torch.equal(together[[0, 16, 47, 48, 63, 64, 69]], torch.cat(alone))
    assert len({one.sum().item() for one in together}) == 70


def test_memory_limits_how_many_share_a_table(isa: str) -> None:
    inputs = torch.randn(128, 2)
    shared = [engine_of(nn.Linear(2, rows), inputs).together for rows in (10, 50_000)]
    assert shared == [64, 0]


def test_a_dropped_weight_meets_no_infinity(isa: str) -> None:
    model, inputs = nn.Linear(7, 3), torch.full((20, 7), torch.inf)
    nothing = random_masks(MaskLayout.of(model), 0, [0])
    found = outputs(engine_of(model, inputs).by_look_up, nothing, inputs)
    assert torch.equal(found, model.bias.detach().expand(1, 20, 3))


# ---- who goes by look-up


def test_only_where_it_is_asked_for(isa: str) -> None:
    model, data = MLP([70, 33, 5]), data_of()
    masks = masks_of(model, 40)
    usual, calls = looked_up(lambda: Evaluator(model, data, backend="native", reuse=())(masks))
    assert calls == 0
    found, calls = looked_up(lambda: Evaluator(model, data, backend="native", reuse=(), lookup=True)(masks))
    assert calls > 0
    torch.testing.assert_close(found, usual, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["few candidates", "a convolution first", "an activation first", "every position",
                                  "too dear", "no coefficients"])
def test_elsewhere_the_usual_way_goes_on(isa: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    model, data = MLP([70, 33, 5]), data_of()
    if name == "a convolution first":
        model, data = LeNet5(), (torch.randn(20, 1, 28, 28), torch.randint(10, (20,)))
    elif name == "an activation first":
        model = nn.Sequential(nn.ReLU(), model)
    elif name == "every position":
        model = nn.Sequential(nn.Linear(14, 5), nn.Flatten(), nn.Linear(25, 5))
        data = torch.randn(20, 5, 14), data[1][:20]
    elif name == "too dear":
        monkeypatch.setattr(look_up, "COEFFICIENTS", {isa: DEAR})
    elif name == "no coefficients":
        monkeypatch.setattr(look_up, "COEFFICIENTS", {})
    masks = masks_of(model, 15 if name == "few candidates" else 20)
    ev = Evaluator(model, data, backend="native", reuse=(), lookup=True)
    found, calls = looked_up(lambda: ev(masks))
    assert calls == 0
    assert torch.equal(found, Evaluator(model, data, backend="native", reuse=())(masks))
    assert "look-up" not in ev.explain()


@pytest.mark.parametrize("backend", ["numba", "torch"])
def test_other_backends_have_none(isa: str, backend: str) -> None:
    model, data = MLP([70, 33, 5]), data_of()
    masks = masks_of(model, 20)
    found, calls = looked_up(lambda: Evaluator(model, data, backend=backend, lookup=True)(masks))
    assert calls == 0
    torch.testing.assert_close(found, Evaluator(model, data, backend="native")(masks), rtol=1e-5, atol=1e-6)


def test_the_rule_looks_at_what_is_kept_and_at_how_many_there_are(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = Coefficients({"linear words": 1.0, "linear dense": 1.0, "linear list": 1.0, "look-up table": 40.0})
    monkeypatch.setattr(look_up, "COEFFICIENTS", {isa: rates})
    model = MLP([100, 33, 5])
    engine = engine_of(model, torch.randn(40, 100))
    for P, share, wanted in ((64, 0.5, True), (64, 0.05, False), (64, 0.2, True), (20, 0.2, False), (20, 0.9, True)):
        assert look_up.takes(engine, masks_of(model, P, share).words) == wanted


def test_shipped_coefficients_are_for_avx512_and_dense_masks() -> None:
    assert set(look_up.COEFFICIENTS) == {"avx512"}
    if "avx512" not in native.isas():
        pytest.skip("no AVX-512")
    engine = engine_of(MLP([784, 300, 10]), torch.randn(256, 784))
    if engine.isa == "avx512":
        assert [look_up.pays(engine, [share] * 64) for share in (1.0, 0.75, 0.2)] == [True, True, False]


def test_explain_names_the_way(isa: str) -> None:
    model = MLP([70, 33, 5])
    ev = Evaluator(model, data_of(), backend="native", lookup=True)

    def way(**density: float) -> bool:
        return "look-up" in next(line.split() for line in ev.explain(**density).splitlines() if " relu" in line)
    assert way(density=0.5)
    ev(masks_of(model, 40))
    assert way()
    ev(masks_of(model, 15))
    assert not way()


def test_duplicates_streams_and_metrics(isa: str) -> None:
    model, data = MLP([70, 33, 5]), data_of(B=300)
    own = masks_of(model, 20)
    masks = PackedMasks.cat([own, own, own[:3]])
    one = Evaluator(model, data, backend="native", lookup=True)
    batches = [(data[0][:100], data[1][:100]), (data[0][100:], data[1][100:])]
    streamed = Evaluator(model, batches, backend="native", lookup=True, stream=True)
    found, calls = looked_up(lambda: one(masks))
    assert calls > 0
    assert torch.equal(found, one(own)[torch.arange(43) % 20])
    again, calls = looked_up(lambda: streamed(masks))
    assert calls > 0
    assert torch.equal(found, again)
    metrics, calls = looked_up(lambda: one.metrics(masks)["loss"])
    assert calls > 0
    assert torch.equal(metrics, found)
