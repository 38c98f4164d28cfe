"""The tally counts what ran, and tells what should have run and did not."""

from __future__ import annotations

from collections import Counter

import pytest

from optprune_fast.runtime import native
from optprune_fast.testing import tally
from optprune_fast.testing.samples import samples
from optprune_fast.testing.subjects import subjects
from optprune_fast.testing.variants import variants

[SUBJECT] = [s for s in subjects() if s.name == "masked_linear"]


@pytest.mark.parametrize("variant", variants(SUBJECT), ids=lambda v: v.label)
def test_what_ran_is_counted_under_its_own_name(variant) -> None:
    before = tally.snapshot()
    variant.run(samples("masked_linear")[0].arguments)
    names = [variant.backend] + [f"native.{variant.isa}"] * bool(variant.isa)
    assert tally.ran_since(before) == sorted(names)


def test_nothing_ran_nothing_counts() -> None:
    assert tally.ran_since(tally.snapshot()) == []


def test_every_backend_and_instruction_set_has_a_line() -> None:
    text = "\n".join(tally.lines(Counter({"torch": 3, "native": 2})))
    for name in ("cuda", "triton", "native", "numba", "torch", *(f"native.{isa}" for isa in native.isas())):
        assert f"\n{name} " in "\n" + text
    assert "torch             3" in text


def test_a_backend_of_the_cpu_without_tests_is_named() -> None:
    all_ran = Counter(dict.fromkeys(tally.expected(), 1))
    assert tally.without_tests(all_ran) == []
    for name in tally.expected():
        assert tally.without_tests(all_ran - Counter({name: 1})) == [name]
