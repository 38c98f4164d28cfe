"""opf.convert: the same outputs from kept weights alone, the model as it was, ties kept, a reason for each layer."""

from __future__ import annotations

import copy
import re

import pytest
import torch
from torch import Tensor, nn

import optprune_fast as opf
from optprune_fast.deploy import chooser
from optprune_fast.deploy.conv import SparseConv1d, SparseConv2d
from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.linear import SparseLinear
from optprune_fast.deploy.report import explain
from optprune_fast.deploy.shipped import BATCHES, CONV, LINEAR
from optprune_fast.models import LeNet5
from optprune_fast.runtime import native

PREFER = pytest.mark.parametrize("prefer", ["speed", "memory"])


class Tied(nn.Module):
    """Two linear layers share a weight; an embedding shares one with the head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(30, 40)
        self.first, self.second, self.head = nn.Linear(40, 40), nn.Linear(40, 40), nn.Linear(40, 30, bias=False)
        self.second.weight = self.first.weight
        self.head.weight = self.embed.weight
        self.again = self.first

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.head(self.again(self.second(self.first(self.embed(tokens)))))
        return out


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def masked(model: nn.Module, mask: opf.PackedMasks) -> nn.Module:
    out = copy.deepcopy(model)
    parameters = dict(out.named_parameters())
    with torch.no_grad():
        for name, bits in mask.to_dense().items():
            parameters[name].masked_fill_(~bits[0], 0.0)
    return out


@PREFER
def test_outputs_are_those_of_the_pruned_model_and_the_model_is_not_changed(prefer: str) -> None:
    model = LeNet5(1, 28).eval()
    mask = opf.magnitude(model, sparsity=0.8).mask
    before = copy.deepcopy(model.state_dict())
    net = opf.convert(model, mask, prefer=prefer)
    x = torch.randn(3, 1, 28, 28)
    torch.testing.assert_close(net(x), masked(model, mask)(x))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))
    assert [type(m) for m in model.modules()] == [type(m) for m in LeNet5(1, 28).modules()]
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.zero_()
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


def test_under_memory_every_layer_that_gets_smaller_is_compressed() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Unflatten(1, (8, 36)), nn.Conv1d(8, 6, 5), nn.Flatten(),
                          nn.Linear(192, 10))
    net = opf.convert(model, opf.magnitude(model, sparsity=0.9, scope="layer").mask, prefer="memory")
    assert [type(m) for m in net if isinstance(m, SparseLayer)] == [SparseConv2d, SparseConv1d, SparseLinear]
    assert net(torch.randn(2, 3, 8, 8)).shape == (2, 10)
    assert sum(p.numel() for p in net.parameters()) == 24  # the biases


def test_all_kept_is_no_smaller_so_it_stays_dense() -> None:
    model = nn.Linear(64, 8)
    net = opf.convert(model, opf.PackedMasks.full(opf.MaskLayout.of(model)), prefer="memory")
    assert type(net) is nn.Linear
    [row] = explain(net).rows
    assert (row.format, row.why, row.nbytes) == ("dense", "compressed it would be no smaller", 4 * 64 * 8)


def test_a_single_layer_becomes_the_model() -> None:
    model = nn.Linear(64, 8)
    net = opf.convert(model, opf.magnitude(model, sparsity=0.9).mask, prefer="memory")
    assert isinstance(net, SparseLinear)
    assert explain(net).rows[0].name == "weight"


@PREFER
def test_tied_weights_stay_tied(prefer: str) -> None:
    model = Tied()
    mask = opf.magnitude(model, sparsity=0.9).mask
    net = opf.convert(model, mask, prefer=prefer)
    tokens = torch.randint(30, (2, 5))
    torch.testing.assert_close(net(tokens), masked(model, mask)(tokens))
    assert net.again is net.first
    assert net.second.weight is net.first.weight
    assert net.head.weight is net.embed.weight
    rows = {row.name: row for row in explain(net).rows}
    assert rows["embed.weight"].why == "Embedding uses it, and has no compressed form"
    again = copy.deepcopy(net).to(torch.bfloat16)
    assert again.second.weight is again.first.weight


def test_what_is_used_inside_of_other_modules_stays_dense() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2).eval()
    mask = opf.magnitude(encoder, sparsity=0.9).mask
    net = opf.convert(encoder, mask, prefer="memory")
    x = torch.randn(2, 5, 16)
    with torch.no_grad():  # where torch would take its fast path, which reads the weights of linear1 and linear2
        torch.testing.assert_close(net(x), masked(encoder, mask)(x))
    why = {row.name: row.why for row in explain(net).rows}
    assert why["layers.0.self_attn.out_proj.weight"].startswith("NonDynamicallyQuantizableLinear uses it")
    assert isinstance(net.layers[1].linear2, SparseLinear)


def test_mode_and_hooks_go_along() -> None:
    model = nn.Sequential(nn.Linear(64, 64)).eval()
    seen: list[str] = []
    model[0].register_forward_hook(lambda module, given, out: seen.append(type(module).__name__))
    net = opf.convert(model, opf.magnitude(model, sparsity=0.9).mask, prefer="memory")
    net(torch.ones(1, 64))
    assert seen == ["SparseLinear"]
    assert not net[0].training


def test_explain_says_what_and_why() -> None:
    model = nn.Sequential(nn.Linear(300, 100), nn.Linear(100, 3))
    net = opf.convert(model, opf.magnitude(model, sparsity=0.9).mask, prefer="memory")
    report = explain(net)
    held = sum(b.nbytes for n, b in net.state_dict().items() if "weight" in n)
    assert report.nbytes == held
    assert report.dense_bytes == 4 * (300 * 100 + 300)
    lines = str(report).splitlines()
    assert lines[0].split() == ["layer", "shape", "kept", "held", "as", "bytes", "of", "dense", "why"]
    assert lines[1].split()[:2] == ["0.weight", "100x300"]
    assert lines[-1].endswith("prefer='memory'")
    with pytest.raises(ValueError, match="made neither by convert nor by load"):
        explain(model)


@pytest.mark.skipif(native.missing() is not None, reason="needs the compiled module")
@pytest.mark.parametrize(("isa", "strided"), [
    ("avx2", "dense is faster below 95% sparsity, by what was measured"), ("avx512", "dense is faster with strides")])
def test_speed_follows_what_was_measured(isa: str, strided: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large sparse layer is sparse, a small or dense one dense, and each says why."""
    monkeypatch.setattr(native, "isa", lambda: isa)
    model = nn.ModuleDict({"large": nn.Linear(2048, 2048), "small": nn.Linear(64, 64), "conv": nn.Conv2d(16, 16, 3),
                           "strided": nn.Conv2d(16, 16, 3, stride=2), "depthwise": nn.Conv2d(16, 16, 3, groups=16),
                           "first": nn.Conv2d(3, 16, 3)})
    at = {}
    for sparsity in (0.5, 0.91):
        net = opf.convert(model, opf.magnitude(model, sparsity=sparsity, scope="layer").mask)
        at[sparsity] = {row.name.split(".")[0]: row.format for row in explain(net).rows}
        why = {row.name.split(".")[0]: row.why for row in explain(net).rows}
    assert set(at[0.5].values()) == {"dense"}
    assert {name for name, form in at[0.91].items() if form == "index"} == {"large", "conv"}
    assert why["large"].startswith("at least ")
    assert re.match(r"sparse would be 0\.\d times as fast as dense at batch \d", why["small"])
    assert why["strided"] == strided
    assert why["depthwise"] == "dense is faster with groups"
    assert why["first"] == "dense is faster below 128 inputs of an output"


def test_figures_are_there_for_every_batch_size_of_every_wide_instruction_set() -> None:
    assert set(LINEAR) == set(CONV) == set(native.ISAS) - {"scalar"}
    for cost in LINEAR.values():
        for curve in (cost.near, cost.far, cost.kept):
            assert len(curve) == len(BATCHES)


@pytest.mark.skipif(native.missing() is not None, reason="needs the compiled module")
@pytest.mark.parametrize(("isa", "form"), [("avx2", "index"), ("avx512", "dense")])
def test_figures_of_float32_hold_for_16_bits_only_where_torch_has_no_faster_way(
        isa: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "isa", lambda: isa)
    layer = nn.Linear(2048, 2048, dtype=torch.bfloat16)
    choice = chooser.choose(layer, layer.weight, 2048 * 100, "speed")
    assert choice.format == form
    assert choice.why.startswith("at least" if form == "index" else "avx512 may have units for 16-bit types")


@pytest.mark.parametrize("reason", ["device", "type", "isa"])
def test_what_no_kernel_serves_stays_dense_under_speed(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if native.missing() is not None:
        pytest.skip("needs the compiled module")
    model = nn.Linear(64, 64).double() if reason == "type" else nn.Linear(64, 64)
    like, device = model.weight, torch.device("mps" if reason == "device" else "cpu")
    if reason == "isa":
        monkeypatch.setattr(chooser, "LINEAR", {})
    choice = chooser.choose(model, like, 4, "speed", device=device)
    assert choice.format == "dense"
    assert choice.why == {"device": "no kernel for mps", "type": "no kernel for float64",
                          "isa": f"nothing was measured on {native.isa()}"}[reason]


@pytest.mark.parametrize(("case", "text"), [
    ("prefer", "convert: prefer must be one of speed, memory"),
    ("masks", "convert: one mask at a time"),
    ("layout", "the model does not have this layout's parameters"),
])
def test_wrong_calls_are_refused(case: str, text: str) -> None:
    model = nn.Linear(64, 8)
    mask = opf.magnitude(model, sparsity=0.5).mask
    calls = {"prefer": lambda: opf.convert(model, mask, prefer="small"),
             "masks": lambda: opf.convert(model, opf.PackedMasks.cat([mask, mask])),
             "layout": lambda: opf.convert(nn.Linear(3, 3), mask)}
    with pytest.raises(ValueError, match=text):
        calls[case]()
