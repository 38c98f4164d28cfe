"""The Triton kernels of rows_linear in Triton's interpreter, in a process of their own (test_triton_interpreter.py)."""

from __future__ import annotations

import os

import pytest
import torch

from optprune_fast.deploy import gpu
from optprune_fast.deploy.linear import SparseLinear
from optprune_fast.deploy.weight import SparseWeight
from optprune_fast.ops.rows_linear import operation, rows_linear, triton_impl
from optprune_fast.ops.words import pack
from optprune_fast.runtime.dispatch import calls
from optprune_fast.runtime.errors import BackendError
from optprune_fast.testing.on_device import judge, placed
from optprune_fast.testing.poison import Poisoned
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import subjects

[SUBJECT] = [s for s in subjects() if s.name == "rows_linear"]
EVERY = 1 if os.environ.get("OPTPRUNE_TEST_ALL") == "1" else 4  # of the samples in float16, which takes the same paths
SAMPLES = [(name, case) for name, dtype, step in (("float32", torch.float32, 1), ("float16", torch.float16, EVERY))
           for case in samples("rows_linear", dtype)[::step]]
KERNELS = ("one_by_words", "few_by_columns", "many")


def sample_of(B: int, coded: bool, *, dtype: torch.dtype = torch.float32):
    """The first sample with so many samples and such places, and columns on both sides of a step."""
    return next(s for s in samples("rows_linear", dtype)
                if s.arguments[0].shape[0] == B and (s.arguments[3].dtype == torch.int64) == coded
                and s.arguments[1][1] > 64)


@pytest.fixture
def ran(monkeypatch):
    """The names of the launches that were made, in order."""
    names = []
    for name in KERNELS:
        monkeypatch.setattr(triton_impl, name, noting(names, name, getattr(triton_impl, name)))
    return names


def noting(names, name, launch):
    def noted(*arguments, **options):
        names.append(name)
        launch(*arguments, **options)

    return noted


@pytest.mark.parametrize("case", [pytest.param(case, id=f"{case.name}-{name}") for name, case in SAMPLES])
def test_every_sample_agrees_with_float64_amid_poison(case):
    before = calls["rows_linear", "triton"]
    arguments, guards = placed(case.arguments, "cpu")
    result = operation(*arguments, backend="triton")
    assert calls["rows_linear", "triton"] == before + 1
    judge(SUBJECT, case, result, rows_linear(*case.arguments, backend="torch"))
    for guard in guards:
        guard.assert_intact()


@pytest.mark.parametrize(("B", "coded", "kernel"), [
    (1, True, "one_by_words"), (2, True, "many"), (65, True, "many"), (1, False, "few_by_columns"),
    (16, False, "few_by_columns"), (17, False, "many")])
def test_the_number_of_samples_decides_which_kernel_runs(B, coded, kernel, ran):
    rows_linear(*sample_of(B, coded).arguments)
    assert ran == [kernel]


@pytest.mark.parametrize("coded", [False, True], ids=["columns", "words"])
@pytest.mark.parametrize("B", [1, 3, 17])
def test_64_bit_offsets_give_the_bits_of_32_bit_offsets(B, coded):
    x, shape, *planes = sample_of(B, coded).arguments
    narrow, wide = (torch.full((B, shape[0]), float("nan")) for _ in range(2))
    triton_impl.launch(x, *planes, narrow, wide=False)
    triton_impl.launch(x, *planes, wide, wide=True)
    assert torch.equal(narrow, wide)


@pytest.mark.parametrize(("outputs", "wide"), [(2**14, False), (2**18, True)])
def test_64_bit_offsets_are_taken_where_the_bytes_of_the_words_need_them(outputs, wide, monkeypatch):
    """2^18 rows of 1024 words: 2^28 words, but 2^31 bytes."""
    taken = []
    monkeypatch.setattr(triton_impl, "launch", lambda *arguments, wide: taken.append(wide))
    sizes = {"values": (outputs,), "places": (outputs, 1024), "counts": (0,), "starts": (outputs + 1,)}
    types = {"places": torch.int64, "counts": torch.int16, "starts": torch.int32}
    planes = [torch.empty(size, dtype=types.get(name), device="meta") for name, size in sizes.items()]
    triton_impl.run(torch.empty(1, 2**16, device="meta"), (outputs, 2**16), *planes)
    assert taken == [wide]


@pytest.mark.parametrize("coded", [False, True], ids=["columns", "words"])
@pytest.mark.parametrize("B", [1, 3, 17])
def test_nothing_is_written_around_the_output_and_nothing_read_past_the_end_of_memory(B, coded, to_a_wall):
    case = sample_of(B, coded)
    x, shape, *planes = case.arguments
    out = Poisoned(torch.empty(B, shape[0]), empty=True)
    walled = [to_a_wall(plane) if plane.numel() else plane for plane in planes]
    triton_impl.launch(to_a_wall(x), *walled, out.tensor, wide=False)
    judge(SUBJECT, case, out.tensor, rows_linear(*case.arguments, backend="torch"))
    out.assert_surroundings_intact()


def test_a_layer_on_a_gpu_runs_the_kernel_with_and_without_gradients(monkeypatch, ran):
    monkeypatch.setattr(gpu, "serves", lambda device: True)
    kept = torch.arange(5 * 70).view(5, 70) % 3 == 0
    layer = SparseLinear(SparseWeight.of(pack(kept), torch.ones(int(kept.sum())), (5, 70)))
    x = torch.ones(2, 70)
    wanted = kept.sum(1).float().expand(2, 5)
    assert torch.equal(layer(x), wanted)
    with torch.no_grad():
        assert torch.equal(layer(x), wanted)
        assert torch.equal(layer(x[0]), wanted[0])
    assert ran == ["many", "many", "one_by_words"]


def test_every_step_over_columns_gives_the_same_sums(monkeypatch):
    """Rows, tiles and kept weights of a step: whatever is chosen, all kept weights are met once."""
    case = sample_of(3, False)
    for config in ((1, 4, 8), (4, 2, 16), (2, 8, 32)):
        monkeypatch.setattr(triton_impl, "few_for", lambda *sizes, config=config: triton_impl.Few(*config))
        judge(SUBJECT, case, rows_linear(*case.arguments), rows_linear(*case.arguments, backend="torch"))


def test_every_tile_of_samples_and_outputs_gives_the_same_sums(monkeypatch):
    case = sample_of(65, True)
    for config in triton_impl.MANY[torch.float16]:
        monkeypatch.setattr(triton_impl, "MANY", {torch.float32: (config,)})
        judge(SUBJECT, case, rows_linear(*case.arguments), rows_linear(*case.arguments, backend="torch"))


def test_bfloat16_is_declined_because_the_interpreter_is_wrong():
    with pytest.raises(BackendError, match="interpreter computes bfloat16 wrongly"):
        rows_linear(*sample_of(1, True, dtype=torch.bfloat16).arguments, backend="triton")


