"""Sparse layers: what torch's layers compute, and all that a module must let be done with it."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from optprune_fast.deploy.layer import SparseLayer
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.ops.words import pack
from tests.deploy.pairs import pair

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(70, 9), (3, 70)),
    "linear-no-bias": (lambda: nn.Linear(70, 9, bias=False), (2, 4, 70)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 5, stride=2, padding=3, dilation=2), (2, 4, 30)),
    "conv1d-groups": (lambda: nn.Conv1d(4, 6, 3, groups=2), (2, 4, 30)),
    "conv1d-same": (lambda: nn.Conv1d(4, 6, 4, padding="same"), (2, 4, 30)),
    "conv1d-plain": (lambda: nn.Conv1d(4, 6, 3), (2, 4, 30)),
    "conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0)), (2, 4, 9, 8)),
    "conv2d-valid": (lambda: nn.Conv2d(4, 6, 3, padding="valid", bias=False), (2, 4, 9, 8)),
    "conv2d-same": (lambda: nn.Conv2d(4, 6, (4, 3), padding="same", dilation=(1, 2)), (2, 4, 9, 8)),
    "conv2d-circular": (lambda: nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode="circular"), (2, 4, 9, 8)),
    "conv2d-reflect-same": (lambda: nn.Conv2d(4, 6, (4, 3), padding="same", padding_mode="reflect"), (2, 4, 9, 8)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, padding=1, groups=4), (2, 4, 9, 8)),
}
BY_LAYER = pytest.mark.parametrize("name", LAYERS)


def made(name: str, seed: int = 1, coded: bool | None = None) -> tuple[nn.Module, SparseLayer, Tensor]:
    return pair(*LAYERS[name], seed=seed, coded=coded)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("coded", [False, True], ids=["index", "bitmask"])
@BY_LAYER
def test_it_computes_what_torch_computes(name: str, coded: bool) -> None:
    dense, sparse, x = made(name, coded=coded)
    assert sparse.weight.format == ("bitmask" if coded else "index")
    torch.testing.assert_close(sparse(x), dense(x))
    if "linear" not in name:
        torch.testing.assert_close(sparse(x[0]), dense(x[0]))  # without a batch


@BY_LAYER
def test_the_dense_layer_comes_back(name: str) -> None:
    dense, sparse, _ = made(name)
    back = sparse.to_dense()
    assert repr(back) == repr(dense)
    assert torch.equal(back.weight, dense.weight)
    assert back.bias is dense.bias


@BY_LAYER
def test_a_state_dict_makes_the_round_trip_also_into_another_mask(name: str) -> None:
    _, sparse, x = made(name)
    _, other, _ = made(name, seed=2)
    assert not torch.equal(other(x), sparse(x))
    other.load_state_dict(sparse.state_dict())
    assert torch.equal(other(x), sparse(x))
    planes = [f"weight.{p}" for p in ("counts", "places", "rows", "starts", "values")]
    assert sorted(sparse.state_dict()) == sorted(planes + ["bias"] * (sparse.bias is not None))


def test_a_state_dict_of_other_places_is_taken_and_the_type_stays() -> None:
    _, sparse, x = made("linear", coded=False)
    _, other, _ = made("linear", seed=2, coded=True)
    other.half()
    other.load_state_dict(sparse.state_dict())
    assert other.weight.format == "index"
    assert other.weight.dtype == torch.float16
    torch.testing.assert_close(other(x.half()).float(), sparse(x), atol=0.02, rtol=0.02)


def test_a_state_dict_that_would_lead_a_kernel_astray_is_refused() -> None:
    _, sparse, _ = made("linear")
    state = sparse.state_dict()
    state["weight.starts"] = state["weight.starts"] + 1
    with pytest.raises(ValueError, match=r"weight.load_state_dict: starts must lead from 0"):
        sparse.load_state_dict(state)
    del state["weight.starts"]
    with pytest.raises(RuntimeError, match="Missing key"):
        sparse.load_state_dict(state)


@BY_LAYER
def test_copies_have_memory_of_their_own(name: str) -> None:
    _, sparse, x = made(name)
    for again in (copy.deepcopy(sparse), pickle.loads(pickle.dumps(sparse))):
        assert torch.equal(again(x), sparse(x))
        again.weight.values.zero_()
        assert not torch.equal(again(x), sparse(x))


@BY_LAYER
def test_it_moves_to_types_and_devices(name: str) -> None:
    dense, sparse, x = made(name)
    for dtype in (torch.bfloat16, torch.float16):
        short = copy.deepcopy(sparse).to(dtype)
        exact = copy.deepcopy(dense).to(dtype).double()(x.to(dtype).double())
        out = short(x.to(dtype))
        assert out.dtype == dtype
        torch.testing.assert_close(out.double(), exact, atol=0, rtol=2 * torch.finfo(dtype).eps)
    assert copy.deepcopy(sparse).to("meta")(x.to("meta")).shape == dense(x).shape


@pytest.mark.filterwarnings("ignore:sparse_.* runs in plain torch")
def test_float64_runs_in_torch() -> None:
    dense, sparse, x = made("linear")
    torch.testing.assert_close(sparse.double()(x.double()), dense.double()(x.double()))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # torch's compiler imports what torch deprecates
@pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d-circular"])
def test_compile_takes_it_whole_at_any_batch(name: str) -> None:
    _, sparse, x = made(name)
    compiled = torch.compile(sparse, fullgraph=True, dynamic=True)
    for batch in (x, torch.cat([x, x, x])):
        torch.testing.assert_close(compiled(batch), sparse(batch))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("name", ["linear", "conv1d", "conv2d"])
def test_vmap_is_more_samples(name: str, grad: bool) -> None:
    _, sparse, x = made(name)
    many = torch.stack([x, 2 * x, x - 1], 1)
    with torch.set_grad_enabled(grad):
        wanted = torch.stack([sparse(many[:, i]) for i in range(3)])
        assert torch.equal(torch.vmap(sparse, in_dims=1)(many), wanted)
        assert torch.vmap(sparse, in_dims=1)(many[:0]).shape == (3, 0, *wanted.shape[2:])
    if name == "linear":
        assert torch.equal(torch.vmap(sparse)(x.flatten(0, -2)), sparse(x.flatten(0, -2)))


def test_vmap_over_biases() -> None:
    _, sparse, x = made("linear")
    biases = torch.stack([sparse.bias.detach(), 2 * sparse.bias.detach()])
    found = torch.vmap(lambda bias: torch.func.functional_call(sparse, {"bias": bias}, (x,)))(biases)
    assert torch.equal(found[0], sparse(x).detach())
    torch.testing.assert_close(found[1], found[0] + biases[0])


@pytest.mark.parametrize(("name", "text"), [
    ("linear", "SparseLinear(\n  in_features=70, out_features=9, \n"),
    ("conv2d", "4, 6, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0)"),
    ("conv1d-groups", "4, 6, kernel_size=(3,), stride=(1,), groups=2"),
    ("conv2d-valid", "padding=valid, bias=False"),
])
def test_it_tells_format_density_and_bytes(name: str, text: str) -> None:
    _, sparse, _ = made(name)
    weight = sparse.weight
    assert text in repr(sparse)
    assert f"{weight.format}, density={weight.density:.4g}, {weight.nbytes} bytes" in repr(sparse)
    assert weight.nbytes == sum(b.nbytes for b in sparse.buffers())
    assert sparse.nbytes == sum(t.nbytes for t in sparse.state_dict().values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("sparsity", [0.5, 0.8, 0.9, 0.95, 0.98])
def test_memory_keeps_within_the_bounds(sparsity: float, dtype: torch.dtype) -> None:
    """Share of the dense weight of the same type, as published."""
    bounds = {0.5: (0.54, 0.57), 0.8: (0.24, 0.27), 0.9: (0.14, 0.17), 0.95: (0.085, 0.12), 0.98: (0.055, 0.085)}
    mask = torch.rand(512, 1024, generator=torch.Generator().manual_seed(6)) >= sparsity
    held = SparseWeight.of(pack(mask), torch.ones(int(mask.sum()), dtype=dtype), (512, 1024))
    assert held.nbytes <= bounds[sparsity][dtype != torch.float32] * mask.numel() * dtype.itemsize
