"""compile_network: a whole network on compressed weights, bit for bit what the evaluator sees."""

from __future__ import annotations

import copy
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import optprune_fast as opf
from optprune_fast.deploy.network import CompiledNetwork, compile_network
from optprune_fast.deploy.report import explain
from optprune_fast.models import LeNet5, ResNet20
from optprune_fast.runtime import native
from optprune_fast.runtime.errors import BackendError
from optprune_fast.testing.nets import Net
from optprune_fast.testing.tolerance import assert_as_accurate

pytestmark = pytest.mark.skipif(native.missing("network") is not None, reason="needs the compiled module")
BATCHES = (1, 2, 3, 4, 5, 8, 9, 17)


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]
    sparsity: float = 0.9
    terms: int = 2000


def strides() -> nn.Module:
    """Unequal strides, dilation, groups, a picture whose rows no number of bands divides, two readers of one value."""
    return Net(lambda m, x: (m["c"](y := m["b"](m["a"](x)).relu()) + m["d"](y)).flatten(1),
               a=nn.Conv2d(2, 6, 3, padding=1),
               b=nn.Conv2d(6, 8, (5, 3), stride=(2, 1), padding=(2, 1), dilation=(1, 2)),
               c=nn.Conv2d(8, 4, 3, stride=(3, 2), padding=1, groups=2), d=nn.Conv2d(8, 4, 1, stride=(3, 2)))


def pools() -> nn.Module:
    """Pooling in bands and, as it overlaps, outside of them; a sum over the picture; concatenated channels."""
    return Net(lambda m, x: m["f"](F.avg_pool2d(F.max_pool2d(torch.cat([m["a"](x), m["b"](x)], 1), 3, 2, 1), 2)
                                   .mean((2, 3))),
               a=nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.MaxPool2d(2)),
               b=nn.Sequential(nn.Conv2d(1, 4, 5, padding=1), nn.AvgPool2d(2), nn.Hardswish()), f=nn.Linear(8, 3))


class Mobile(nn.Module):
    """Depthwise convolutions with strides, ReLU6, few rows at the end, and one pooling over all of them."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((4, 8, 1), (8, 8, 2), (8, 12, 2), (12, 12, 1), (12, 16, 2), (16, 16, 1))
        blocks = [nn.Sequential(nn.Conv2d(a, a, 3, stride, 1, groups=a), nn.BatchNorm2d(a), nn.ReLU6(),
                                nn.Conv2d(a, b, 1), nn.BatchNorm2d(b)) for a, b, stride in widths]
        self.layers = nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), nn.ReLU6(), *blocks, nn.AdaptiveAvgPool2d(1),
                                    nn.Flatten(), nn.Linear(16, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def overlapping() -> nn.Module:
    """Maxima over windows that overlap, of numbers below zero too; one beside a convolution that reads the same."""
    return Net(lambda m, x: torch.cat([m["c"](y := m["p"](m["b"](m["q"](m["a"](x))))), F.max_pool2d(y, 3, 1, 1)], 1)
               .mean((2, 3)),
               a=nn.Conv2d(2, 4, 7, 2, 3), q=nn.MaxPool2d(3, 2, 1), b=nn.Conv2d(4, 6, 3, padding=1),
               p=nn.MaxPool2d((3, 2), (2, 1)), c=nn.Conv2d(6, 5, 3, padding=1))


def excited() -> nn.Module:
    """Channels multiplied with what their own mean says, by way of two small layers, and a sum with one pixel."""
    def forward(m: nn.ModuleDict, x: torch.Tensor) -> torch.Tensor:
        y = m["a"](x).relu()
        share = m["c"](m["b"](F.adaptive_avg_pool2d(y, 1)).relu()).sigmoid()
        return m["d"](y * share + m["e"](y.mean((2, 3), keepdim=True))).flatten(1)

    return Net(forward,
               a=nn.Conv2d(2, 6, 3, padding=1), b=nn.Conv2d(6, 3, 1), c=nn.Conv2d(3, 6, 1), e=nn.Conv2d(6, 6, 1),
               d=nn.Conv2d(6, 2, 3, 2, 1))


CASES = {
    "resnet": Case(lambda: ResNet20(3, 5, width=4), (3, 16, 16)),
    "lenet": Case(lambda: LeNet5(1, 28), (1, 28, 28)),
    "half": Case(lambda: ResNet20(1, 3, width=3), (1, 9, 7), 0.4),
    "strides": Case(strides, (2, 19, 11), 0.6),
    "pools": Case(pools, (1, 21, 10), 0.5),
    "overlapping": Case(overlapping, (2, 67, 14), 0.5),
    "excited": Case(excited, (2, 18, 7), 0.5),
    "mobile": Case(Mobile, (2, 80, 24)),
    "pictures": Case(lambda: nn.Sequential(nn.Conv2d(1, 3, 7, padding=3), nn.ReLU(), nn.Conv2d(3, 2, 3)), (1, 5, 6),
                     0.7),
    "rows": Case(lambda: nn.Sequential(nn.Conv1d(2, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(60, 4)),
                 (2, 12), 0.7),
    "features": Case(lambda: nn.Sequential(nn.Linear(300, 40), nn.GELU(), nn.Linear(40, 7)), (300,)),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def trained_statistics(model: nn.Module) -> nn.Module:
    """Batch normalisation with statistics of its own, so that folding does something."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) / 10
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def pruned(model: nn.Module, mask: opf.PackedMasks) -> nn.Module:
    out = copy.deepcopy(model)
    parameters = dict(out.named_parameters())
    with torch.no_grad():
        for name, bits in mask.to_dense().items():
            parameters[name].masked_fill_(~bits[0], 0.0)
    return out


@functools.cache  # nobody changes what it returns
def made(case: Case) -> tuple[nn.Module, opf.PackedMasks, CompiledNetwork]:
    model = trained_statistics(case.make())
    mask = opf.magnitude(model, sparsity=case.sparsity, scope="uniform").mask
    net = opf.convert(model, mask, prefer="memory")
    return model, mask, compile_network(net, torch.randn(2, *case.shape))


@EACH
def test_outputs_are_as_exact_as_torchs(case: Case) -> None:
    model, mask, net = made(case)
    x, dense = torch.randn(11, *case.shape), pruned(model, mask)
    with torch.no_grad():
        exact = copy.deepcopy(dense).double()(x.double())
        assert_as_accurate(net(x), dense(x), exact, terms=case.terms, magnitude=float(exact.abs().max()))


@pytest.mark.parametrize("isa", native.isas())
@EACH
def test_bits_are_the_evaluators_for_every_batch_and_instruction_set(
        case: Case, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, mask, net = made(case)
    x = torch.randn(max(BATCHES), *case.shape)
    targets = torch.zeros(len(x), dtype=torch.long)
    wanted = opf.Evaluator(model, (x, targets), objective="mse_to_dense", backend="native").outputs(mask)[0]
    monkeypatch.setenv("OPTPRUNE_ISA", isa)
    for batch in BATCHES:
        assert torch.equal(net(x[:batch]), wanted[:batch]), batch
    assert net(x[:0]).shape == wanted[:0].shape


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, net = made(CASES["resnet"])
    x = torch.randn(150, 3, 16, 16)
    one = net(x)
    monkeypatch.setenv("OPTPRUNE_THREADS", "3")
    assert torch.equal(net(x), one)


def test_calls_from_several_threads_do_not_share_memory() -> None:
    _, _, net = made(CASES["lenet"])
    inputs = [torch.randn(3, 1, 28, 28) for _ in range(4)]
    wanted, found = [net(x) for x in inputs], [[torch.zeros(0)] * 20 for _ in inputs]

    def call(i: int) -> None:
        for k in range(20):
            found[i][k] = net(inputs[i])

    threads = [threading.Thread(target=call, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(out, wanted[i]) for i in range(4) for out in found[i])


def test_weights_are_compressed_and_nothing_of_the_network_is_needed() -> None:
    model = ResNet20().eval()
    mask = opf.magnitude(model, sparsity=0.9, scope="uniform").mask
    sparse = opf.convert(model, mask, prefer="memory")
    net = compile_network(sparse, torch.zeros(1, 3, 32, 32))
    report = explain(net)
    assert net.nbytes == report.nbytes <= 0.14 * report.dense_bytes
    assert {row.format for row in report.rows} == {"index", "bitmask"}
    x = torch.randn(1, 3, 32, 32)
    wanted = net(x)
    for module in sparse.modules():  # an own copy: what happens to the network does not show
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and tensor.is_floating_point():
                tensor.data.fill_(float("nan"))
    assert torch.equal(net(x), wanted)
    assert list(net.parameters()) == []


def test_rows_that_nobody_reads_are_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)).eval()
    with torch.no_grad():
        model[0].weight[2, :, 1:] = 0
        model[2].weight[:, [1, 3]] = 0
        model[2].weight[:, :, 0] = 0
    net = compile_network(model, torch.zeros(1, 1, 6, 6))
    live = net._weights[0].live
    assert live is not None
    assert live.tolist() == [0, 2]
    x = torch.randn(2, 1, 6, 6)
    torch.testing.assert_close(net(x), model(x))


def test_a_plain_network_runs_as_well_its_layers_dense() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(320, 3)).eval()
    net = compile_network(model, torch.zeros(1, 3, 8, 8))
    assert {row.format for row in explain(net).rows} == {"dense"}
    for batch in (1, 8):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(net(x), model(x))


def test_two_inputs_and_indices_of_three_dimensions() -> None:
    model = Net(lambda m, tokens, x: m["f"](m["e"](tokens).mean((1, 2, 3))) + m["g"](x), e=nn.Embedding(11, 6),
                f=nn.Linear(6, 3), g=nn.Linear(4, 3)).eval()
    tokens, x = torch.randint(11, (3, 2, 2, 3)), torch.randn(3, 4)
    torch.testing.assert_close(compile_network(model, tokens, x)(tokens, x), model(tokens, x))
    alone = Net(lambda m, tokens: m["f"](m["e"](tokens).mean((1, 2, 3))), e=nn.Embedding(11, 6),
                f=nn.Linear(6, 3)).eval()
    torch.testing.assert_close(compile_network(alone, tokens)(tokens[:1]), alone(tokens[:1]))


def test_tokens_are_checked() -> None:
    model = nn.Sequential(nn.Embedding(11, 6), nn.Linear(6, 3)).eval()
    net = compile_network(model, torch.zeros(2, 4, dtype=torch.long))
    tokens = torch.randint(11, (3, 4))
    torch.testing.assert_close(net(tokens), model(tokens))
    with pytest.raises(ValueError, match=r"must lie in \[0, 11\)"):
        net(torch.full((1, 4), 11))


def test_a_copy_has_weights_of_its_own() -> None:
    net = copy.deepcopy(made(CASES["lenet"])[2])
    x = torch.randn(2, 1, 28, 28)
    wanted, other = net(x), copy.deepcopy(net)
    for weight in net._weights:
        (weight.held if isinstance(weight.held, Tensor) else weight.held.values).fill_(float("nan"))
    assert net(x).isnan().all()
    assert torch.equal(other(x), wanted)


@pytest.mark.parametrize(("x", "given"), [
    (torch.zeros(1, 1, 27, 28), r"float32\[1, 1, 27, 28\]"), (torch.zeros(1, 1, 28, 28).double(), "float64"),
    (torch.zeros(1, 28, 28), r"float32\[1, 28, 28\]")])
def test_another_input_than_the_examples_is_an_error(x: Tensor, given: str) -> None:
    _, _, net = made(CASES["lenet"])
    rule = rf"float32 \[B, 1, 28, 28\](.|\n)*{given}(.|\n)*compile_network\(net, example"
    with pytest.raises(ValueError, match=rule):
        net(x)
    with pytest.raises(ValueError, match="argument 0"):
        net()


def test_training_and_gradients_are_errors() -> None:
    _, _, net = made(CASES["lenet"])
    x = torch.zeros(1, 1, 28, 28, requires_grad=True)
    with pytest.raises(ValueError, match=r"no gradients(.|\n)*no_grad"):
        net(x)
    with torch.no_grad():
        assert not net(x).requires_grad
    with pytest.raises(ValueError, match="eval mode only"):
        copy.deepcopy(net).train()(x)


def test_what_cannot_run_whole_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    sorting = Net(lambda m, x: m["a"](x).sort(1)[0], a=nn.Linear(3, 2)).eval()
    with pytest.raises(ValueError, match=r"cannot run whole: .*sort(.|\n)*run the network itself"):
        compile_network(sorting, torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"runs in float32(.|\n)*bfloat16"):
        compile_network(nn.Linear(3, 2).bfloat16(), torch.zeros(1, 3).bfloat16())
    with pytest.raises(ValueError, match="the example must be"):
        compile_network(nn.Linear(3, 2))
    monkeypatch.setattr(native, "missing", lambda kernel="": "no compiler was here")
    with pytest.raises(BackendError, match="no compiler was here"):
        compile_network(nn.Linear(3, 2), torch.zeros(1, 3))
