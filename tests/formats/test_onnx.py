"""A pruned model as ONNX: exact zeros, and what a runtime computes with them."""

import sys
import warnings

import pytest
import torch
from torch import nn

import optprune_fast as opf
from optprune_fast.formats.onnx import NEEDED, to_onnx


def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 4 * 4, 5))
        net.train()(torch.randn(8, 2, 6, 6))
    return net.eval()


def inputs(count):
    return torch.randn(count, 2, 6, 6, generator=torch.Generator().manual_seed(count))


def written(net, mask, path, example=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter has deprecations of its own
        return to_onnx(net, mask, path, (inputs(2) if example is None else example,))


def test_pruned_weights_are_zero_and_kept_ones_have_their_bits(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    net = network()
    mask = opf.magnitude(net, 0.8).mask
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    path = written(net, mask, tmp_path / "net.onnx")
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    held = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor))
            for tensor in onnx.load(path).graph.initializer}
    for name, bits in mask.to_dense().items():
        assert torch.equal(held[name].view(torch.int32), torch.where(bits[0], before[name], 0.0).view(torch.int32))


def test_tied_weights_are_written_once(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    net = nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 50, bias=False)).eval()
    net[1].weight = net[0].weight
    tokens = torch.zeros(2, 7, dtype=torch.int64)
    path = written(net, opf.magnitude(net, 0.5).mask, tmp_path / "net.onnx", tokens)
    assert [list(tensor.dims) for tensor in onnx.load(path).graph.initializer] == [[50, 8]]


def test_it_computes_what_the_pruned_model_does_for_any_number_of_samples(tmp_path):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    reference = pytest.importorskip("onnx.reference", reason="onnx is not installed")
    net = network()
    mask = opf.magnitude(net, 0.8).mask
    run = reference.ReferenceEvaluator(str(written(net, mask, tmp_path / "net.onnx")))
    expected = opf.Evaluator(net, (inputs(3), None), "mse_to_dense", backend="torch").outputs(mask)[0]
    got = run.run(None, {run.input_names[0]: inputs(3).numpy()})[0]
    torch.testing.assert_close(torch.tensor(got), expected, rtol=1e-4, atol=1e-5)


# ---- errors teach


@pytest.mark.parametrize("name", NEEDED)
def test_a_package_that_is_missing_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr("optprune_fast.formats.onnx.importlib.util.find_spec",
                        lambda asked: None if asked == name else sys)
    with pytest.raises(ImportError, match=rf"to_onnx: {name} must be installed(.|\n)*optprune-fast\[onnx\]"):
        to_onnx(network(), opf.magnitude(network(), 0.8).mask, tmp_path / "net.onnx", (inputs(2),))


@pytest.fixture
def all_there(monkeypatch):
    monkeypatch.setattr("optprune_fast.formats.onnx.importlib.util.find_spec", lambda asked: sys)


def test_several_masks_are_refused(tmp_path, all_there):
    mask = opf.magnitude(network(), 0.8).mask
    with pytest.raises(ValueError, match=r"to_onnx: one mask at a time(.|\n)*masks\[i\]"):
        to_onnx(network(), opf.PackedMasks.cat([mask, mask]), tmp_path / "net.onnx", (inputs(2),))


def test_weights_beyond_one_file_are_refused(tmp_path, all_there):
    net = nn.Linear(2**15, 2**14 + 1, bias=False, device="meta")
    mask = opf.magnitude(nn.Linear(2, 2), 0.5).mask
    with pytest.raises(ValueError, match=r"to_onnx: the weights must fit into one file of 2 GiB(.|\n)*opf.export"):
        to_onnx(net, mask, tmp_path / "net.onnx", (torch.zeros(2, 2**15, device="meta"),))
    assert not list(tmp_path.iterdir())
