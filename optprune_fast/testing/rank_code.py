"""The machine code of topk_threshold's Triton kernels, for a card that need not be here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from optprune_fast.testing.aot import MachineCode, compile_triton

_TYPES = {"owners": "*i32", "sample": "*i32", "arena": "*i32"}  # all other arguments are *i64


def compile_kernel(name: str, capability: int, **constants: Any) -> MachineCode:
    """One kernel, as `triton_impl.launch` has it compiled."""
    from optprune_fast.ops.topk_threshold import triton_impl, triton_mark, triton_patch, triton_sample, triton_select

    [kernel] = {getattr(m, name) for m in (triton_mark, triton_patch, triton_sample, triton_select) if hasattr(m, name)}
    names = [n for n in kernel.arg_names if n not in constants]
    options = {n: o for n, o in triton_impl.options(name).items() if o is not None}
    return compile_triton(kernel, signature={n: _TYPES.get(n, "*i64") for n in names}, constants=constants,
                          aligned=names, capability=capability, options=options)


def configurations() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every kernel with every set of constants that a call may ask for.

    >>> sum(name == "mark_kernel" for name, _ in configurations())
    8
    """
    from optprune_fast.ops.topk_threshold.triton_impl import LIST_BLOCK, SAMPLE_BLOCK

    both = (False, True)
    for drop in both:
        yield "sample_kernel", {"DROP": drop, "BLOCK": SAMPLE_BLOCK}
        for ranks in (1, 2):
            for again in both:
                yield "mark_kernel", {"RANKS": ranks, "AGAIN": again, "DROP": drop}
        for step in range(4):
            yield "exact_digit_kernel", {"STEP": step, "DROP": drop, "BLOCK": LIST_BLOCK}
    for step in range(4):
        yield "sample_digit_kernel", {"STEP": step, "BLOCK": LIST_BLOCK}
    for name in ("bracket_kernel", "key_kernel", "count_kernel"):
        for ranks in (1, 2):
            yield name, {"RANKS": ranks}
    for first, pool in ((True, False), (True, True), (False, True)):
        yield "patch_kernel", {"FIRST": first, "POOL": pool}
