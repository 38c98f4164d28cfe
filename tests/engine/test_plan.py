"""Networks that run whole: as exact as torch, and the same bits however the work is cut."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from optprune_fast.engine.evaluator import Evaluator
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.masks.operators import candidate_seeds, random_masks
from optprune_fast.masks.packed import PackedMasks
from optprune_fast.models import MLP, DepthwiseNet, LeNet5, ResNet20, TinyTransformer
from optprune_fast.runtime import native
from optprune_fast.testing.nets import Net
from optprune_fast.testing.tolerance import assert_as_accurate

pytestmark = pytest.mark.skipif(native.missing("population") is not None, reason="no compiled module")
SIZES = (1, 7, 8, 9, 31, 32, 33, 63, 64, 65, 129)


def conv(*args: int, **more: object) -> nn.Conv2d:
    return nn.Conv2d(*args, **more)


def grouped(m: nn.ModuleDict, x: Tensor) -> Tensor:
    x = m["depth"](m["dilated"](x)).relu()
    return m["last"](m["grouped"](x).tanh())


def residual(m: nn.ModuleDict, x: Tensor) -> Tensor:
    y = m["n1"](m["a"](x)).relu()
    y = (m["n2"](m["b"](y)) + y).relu()
    return m["fc"](F.max_pool2d(y, 2).flatten(1))  # 9 x 7: a row and a column are left over


def in_groups(m: nn.ModuleDict, x: Tensor) -> Tensor:
    y = m["n1"](m["a"](x)).relu()
    return m["fc"]((m["n2"](m["b"](y)) + y).relu().mean((2, 3)))


def unfolded(m: nn.ModuleDict, x: Tensor) -> Tensor:
    y = m["n1"](F.max_pool2d(m["a"](x).relu(), 3, 2, 1))
    return m["b"](torch.cat([y, y.sigmoid() * y], 1)).mean((2, 3))


def lookups(m: nn.ModuleDict, x: Tensor) -> Tensor:
    return m["fc"](m["norm"](m["words"](x)).flatten(1)).log_softmax(1)


def cropped(m: nn.ModuleDict, x: Tensor) -> Tensor:
    """A slice has neighbours where a picture has its border, and a permutation has others."""
    y = m["a"](x)
    return m["b"](y[:, :, 2:6, 1:5]) + m["b"](y.permute(0, 2, 1, 3)[:, :, :4, :4]) + m["a"](x[:, :2, 1:5, 1:5])[:, :2]


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: MLP([70, 33, 20, 5]), (70,)),
    "lenet5": (LeNet5, (1, 28, 28)),
    "resnet20": (lambda: ResNet20(3, 4, width=2), (3, 9, 8)),
    "depthwise": (lambda: DepthwiseNet(2, 4, width=3), (2, 9, 8)),
    "transformer": (lambda: TinyTransformer(1, 8, 5, patch=4, width=8, heads=2, layers=1), (1, 8, 8)),
    "grouped": (lambda: Net(lambda m, x: grouped(m, x).flatten(1), dilated=conv(2, 6, 3, padding=2, dilation=2),
                            depth=conv(6, 6, (3, 5), stride=(2, 1), padding=(1, 2), groups=6),
                            grouped=conv(6, 4, 3, groups=2, padding=1), last=conv(4, 1, (2, 3))), (2, 9, 7)),
    "residual": (lambda: Net(residual, a=conv(2, 4, 3, padding=1), n1=nn.BatchNorm2d(4), b=conv(4, 4, 3, padding=1),
                             n2=nn.BatchNorm2d(4), fc=nn.Linear(4 * 4 * 3, 3)), (2, 9, 7)),
    "in groups": (lambda: Net(in_groups, a=conv(2, 6, 3, padding=1), n1=nn.GroupNorm(3, 6), b=conv(6, 6, 3, padding=1),
                              n2=nn.GroupNorm(2, 6, affine=False), fc=nn.Linear(6, 3)), (2, 9, 7)),
    "unfolded": (lambda: Net(unfolded, a=conv(2, 4, 3), n1=nn.BatchNorm2d(4), b=conv(8, 3, 3, padding=1)), (2, 9, 8)),
    "average": (lambda: Net(lambda m, x: m["b"](F.avg_pool2d(m["a"](x), 3, 2, 1)).flatten(1), a=conv(2, 4, 3),
                            b=conv(4, 2, 2)), (2, 9, 8)),
    "average inside": (lambda: Net(lambda m, x: F.avg_pool2d(m["a"](x), 3, 2, 1, count_include_pad=False).flatten(1),
                                   a=conv(2, 2, 3)), (2, 9, 8)),
    "conv1d": (lambda: Net(lambda m, x: m["b"](F.gelu(m["a"](x))).mean(2), a=nn.Conv1d(2, 6, 3, padding=1),
                           b=nn.Conv1d(6, 3, 5, padding=4, dilation=2, stride=2, groups=3)), (2, 19)),
    "twice": (lambda: Net(lambda m, x: m["b"](m["a"](m["a"](x).relu()).relu()), a=nn.Linear(9, 9), b=nn.Linear(9, 4)),
              (9,)),
    "softmax": (lambda: Net(lambda m, x: m["n"](m["a"](x).relu()).softmax(1), a=nn.Linear(9, 5), n=nn.BatchNorm1d(5)),
                (9,)),
    "cropped": (lambda: Net(cropped, a=conv(2, 8, 3, padding=1), b=conv(8, 2, 3, padding=1)), (2, 8, 8)),
    "positions": (lambda: Net(lambda m, x: m["a"](x).log_softmax(1), a=conv(2, 3, 3, padding=1)), (2, 4, 5)),
}


def build(name: str) -> nn.Module:
    torch.manual_seed(3)
    model = NETS[name][0]().eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def masks_of(layout: MaskLayout, P: int = 3, share: float = 0.4) -> PackedMasks:
    return random_masks(layout, round(share * layout.n), candidate_seeds(7, 0, P))


def assert_exact(model: nn.Module, ev: Evaluator, masks: PackedMasks, inputs: tuple[Tensor, ...], loop) -> None:
    same, exact = (loop(model, masks, *inputs, dtype=dtype) for dtype in (torch.float32, torch.float64))
    terms = sum(layer.columns for layer in ev.layout)
    assert_as_accurate(ev.outputs(masks), same, exact, terms=terms, magnitude=max(1.0, float(exact.abs().max())))


@pytest.mark.parametrize("name", NETS)
def test_outputs_are_those_of_a_loop(name: str, plain_loop, monkeypatch) -> None:
    """Several tiles and candidates: what one writes past a picture would be another's border."""
    model, inputs = build(name), torch.randn(69, *NETS[name][1])
    bits = []
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        ev = Evaluator(model, (inputs, None), "mse_to_dense", backend="native")
        masks, before = masks_of(ev.layout), native.calls()["population", isa]
        assert_exact(model, ev, masks, (inputs,), plain_loop)
        bits.append((ev.outputs(masks), ev(masks)))
        assert native.calls()["population", isa] > before
        assert not ev._compiled.reason
    assert all(torch.equal(a, b) for other in bits for a, b in zip(other, bits[0], strict=True))


@pytest.mark.parametrize("kind", [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(),
    nn.Sigmoid(), nn.Tanh(), nn.Hardswish(), nn.Hardsigmoid(), nn.Hardtanh(-0.5, 2.0)], ids=str)
def test_activations(kind: nn.Module, plain_loop) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(9, 12), kind, nn.Linear(12, 3), kind)
    inputs = 4 * torch.randn(33, 9)
    ev = Evaluator(model, (inputs, None), "mse_to_dense", backend="native")
    assert_exact(model, ev, masks_of(ev.layout, share=0.8), (inputs,), plain_loop)
    assert ev._compiled.ready


@pytest.mark.parametrize("share", [0.2, 0.9])  # dropped weights are skipped, and multiplied as zeros
@pytest.mark.parametrize("isa", native.isas())
@pytest.mark.parametrize("kind", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.5, 0.7)], ids=str)
def test_activations_that_a_convolution_applies_as_it_stores(kind: nn.Module, isa: str, share: float, monkeypatch,
                                                             plain_loop) -> None:
    monkeypatch.setenv("OPTPRUNE_ISA", isa)
    torch.manual_seed(3)
    model = Net(lambda m, x: F.max_pool2d(kind(m["b"](y := kind(m["a"](x))) + y), 2), a=nn.Conv2d(2, 5, 3, padding=1),
                b=nn.Conv2d(5, 5, 3, padding=1)).eval()
    inputs = 4 * torch.randn(19, 2, 9, 7)
    ev = Evaluator(model, (inputs, None), "mse_to_dense", backend="native")
    assert_exact(model, ev, masks_of(ev.layout, share=share), (inputs,), plain_loop)
    assert ev._compiled.ready


@pytest.mark.parametrize("B", SIZES)
@pytest.mark.parametrize("name", ["mlp", "residual", "positions"])
def test_no_way_to_cut_the_work_changes_a_bit(name: str, B: int, monkeypatch) -> None:
    model, inputs = build(name), torch.randn(B, *NETS[name][1])
    classes = model(inputs[:1]).shape[1]
    targets = torch.randint(classes, (B, *model(inputs[:1]).shape[2:]))
    found = []
    for isa in native.isas():
        monkeypatch.setenv("OPTPRUNE_ISA", isa)
        for threads in ("1", "2"):
            monkeypatch.setenv("OPTPRUNE_THREADS", threads)
            ev = Evaluator(model, (inputs, targets), backend="native")
            masks = masks_of(ev.layout)
            found += [ev(masks), torch.cat([ev(mask) for mask in masks])]
            assert ev(masks[:0]).shape == (0,)
        cut = [(inputs[i:i + 5], targets[i:i + 5]) for i in range(0, B, 5)]
        found.append(Evaluator(model, cut, backend="native")(masks))
    assert all(torch.equal(one, found[0]) for one in found)
    same = Evaluator(model, (inputs, targets), backend="native", plan=False)(masks)
    torch.testing.assert_close(found[0], same, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("objective", ["cross_entropy", "error", "kl_to_dense", "mse_to_dense"])
@pytest.mark.parametrize("name", ["mlp", "positions", "transformer"])
def test_objectives_are_those_of_the_general_way(name: str, objective: str) -> None:
    model, inputs = build(name), torch.randn(41, *NETS[name][1])
    out = model(inputs)
    data = (inputs, torch.randint(out.shape[1], (41, *out.shape[2:])))
    whole, layers = (Evaluator(model, data, objective, backend="native", plan=plan) for plan in (True, False))
    masks = masks_of(whole.layout)
    assert whole._compiled.ready
    assert layers._compiled.reason == "plan=False"
    torch.testing.assert_close(whole(masks), layers(masks), rtol=1e-5, atol=1e-6)
    for name_, value in whole.metrics(masks).items():
        torch.testing.assert_close(value, layers.metrics(masks)[name_], rtol=1e-5, atol=1e-6)


def test_rows_that_nobody_reads_change_nothing(plain_loop) -> None:
    """At one weight in fifty most rows are dead, and hold what other candidates left."""
    for name in ("mlp", "lenet5", "residual", "depthwise"):
        model, inputs = build(name), torch.randn(9, *NETS[name][1])
        ev = Evaluator(model, (inputs, None), "mse_to_dense", backend="native")
        assert any(layer.consumers for layer in ev._compiled.program(ev.batches.kinds[0].example).program.layers)
        ev(PackedMasks.full(ev.layout))
        assert_exact(model, ev, masks_of(ev.layout, 5, share=0.02), (inputs,), plain_loop)


def test_layers_outside_of_the_layout_are_whole(plain_loop) -> None:
    model, inputs = build("lenet5"), torch.randn(9, 1, 28, 28)
    layout = MaskLayout.of(model, exclude=["conv1.*", "fc2.*"])
    ev = Evaluator(model, (inputs, None), "mse_to_dense", backend="native", layout=layout)
    assert_exact(model, ev, masks_of(layout), (inputs,), plain_loop)
    assert ev._compiled.ready


def test_token_indices() -> None:
    torch.manual_seed(0)
    model = Net(lookups, words=nn.Embedding(7, 4), norm=nn.LayerNorm(4), fc=nn.Linear(24, 3))
    tokens, targets = torch.randint(7, (19, 6)), torch.randint(3, (19,))
    whole, layers = (Evaluator(model, (tokens, targets), backend="native", plan=plan) for plan in (True, False))
    masks = masks_of(whole.layout)
    torch.testing.assert_close(whole(masks), layers(masks), rtol=1e-5, atol=1e-6)
    assert whole._compiled.ready
    for bad in (7, -1):
        tokens = tokens.clone()
        tokens[11, 2] = bad
        with pytest.raises(ValueError, match=r"indices into layers\.words\.weight must lie in \[0, 7\)"):
            Evaluator(model, (tokens, targets), backend="native")(masks)


def test_targets_are_checked_before_metrics_look_them_up() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    ev = Evaluator(model, (torch.randn(5, 4), torch.tensor([0, 1, 2, 9, 0])), "kl_to_dense", backend="native")
    masks = masks_of(ev.layout)
    assert ev(masks).shape == (3,)
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 3\)"):
        ev.metrics(masks)


class Keywords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, x: Tensor, weight: Tensor, factor: float = 1.0) -> Tensor:
        return self.a(x) * weight[:, None] * factor + self.b(x[:, :2])


def test_keywords_and_their_values() -> None:
    """Batches that differ in an argument without samples are different networks."""
    torch.manual_seed(0)
    data = [{"x": torch.randn(n, 4), "weight": torch.rand(n), "factor": factor, "labels": torch.randint(3, (n,))}
            for n, factor in ((5, 1.0), (9, -2.0), (40, 1.0))]
    model = Keywords()
    whole, layers = (Evaluator(model, data, backend="native", plan=plan) for plan in (True, False))
    masks = masks_of(whole.layout)
    assert whole._compiled.ready
    torch.testing.assert_close(whole(masks), layers(masks), rtol=1e-5, atol=1e-6)


def test_batches_of_one_shape_that_are_no_neighbours() -> None:
    """The first has three samples; the tiles of their program must suit the 200 of the last."""
    torch.manual_seed(0)
    model = Net(lambda m, x: m["a"](x).relu().mean(1), a=nn.Linear(4, 3))
    data = [(torch.randn(n, T, 4), torch.randint(3, (n,))) for n, T in ((3, 4), (3, 6), (200, 4))]
    whole, layers = (Evaluator(model, data, backend="native", plan=plan) for plan in (True, False))
    masks = masks_of(whole.layout)
    torch.testing.assert_close(whole(masks), layers(masks), rtol=1e-5, atol=1e-6)


def test_explain_says_why_a_network_is_not_captured() -> None:
    model = Net(lambda m, x: m["a"](x).cumsum(0), a=nn.Linear(4, 3))
    ev = Evaluator(model, (torch.randn(5, 4), torch.randint(3, (5,))), backend="native")
    assert "aten.cumsum.default mixes samples" in ev.explain()
    shared = Net(lambda m, x, w: m["a"](x) + w, a=nn.Linear(4, 3))
    ev = Evaluator(shared, ((torch.randn(5, 4), torch.randn(3)), torch.randint(3, (5,))), backend="native")
    assert "argument 1 has no entry for each sample" in ev.explain()
    assert ev(masks_of(ev.layout)).shape == (3,)
