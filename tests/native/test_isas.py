"""The instruction set asked for is the one that runs, and one that cannot run is an error that says so."""

from __future__ import annotations

import pytest

from optprune_fast.ops import masked_conv2d, masked_linear
from optprune_fast.runtime import native
from optprune_fast.testing.samples import samples

LINEAR = masked_linear.operation.implementation("native").run
CONV = masked_conv2d.operation.implementation("native").run


@pytest.mark.parametrize("isa", native.isas())
def test_the_kernel_that_ran_is_the_one_forced(isa, forced):
    before = native.calls()
    forced(isa, 1, LINEAR, *samples("masked_linear")[0].arguments)
    forced(isa, 1, CONV, *samples("masked_conv2d")[0].arguments[:3], (1, 1), (0, 0), (1, 1), 1)
    ran = {row: n - before[row] for row, n in native.calls().items() if n != before[row]}
    assert ran == {("masked_linear", isa): 1, ("masked_conv2d", isa): 1}


def test_without_a_wish_the_widest_runs(compiled, monkeypatch):
    monkeypatch.delenv("OPTPRUNE_ISA", raising=False)
    assert native.isa() == native.isas()[-1]


def test_an_unknown_instruction_set_is_an_error(compiled, monkeypatch):
    monkeypatch.setenv("OPTPRUNE_ISA", "sse9")
    with pytest.raises(ValueError, match="OPTPRUNE_ISA must be one of scalar, avx2, avx512, not 'sse9'"):
        masked_linear.masked_linear(*samples("masked_linear")[0].arguments, backend="native")


def test_an_instruction_set_that_the_cpu_lacks_is_an_error(replaced, monkeypatch):
    class OldCpu:
        @staticmethod
        def isas() -> list[str]:
            return ["scalar", "avx2"]

    monkeypatch.setenv("OPTPRUNE_ISA", "avx512")
    said = "OPTPRUNE_ISA=avx512: this CPU and this build run scalar, avx2 only"
    with replaced(native, "module", OldCpu), pytest.raises(ValueError, match=said):
        native.isa()


def test_the_module_itself_refuses_what_the_cpu_lacks(compiled):
    with pytest.raises(ValueError, match="this CPU has no instruction set sse9"):
        native.module().choose_bits("sse9", 1, 0, 0, 0, 0, 0, 0, 0)
