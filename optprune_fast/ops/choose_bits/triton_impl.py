"""choose_bits in Triton: words on a CUDA device, a program a row."""

from __future__ import annotations

from torch import Tensor

from optprune_fast.ops.cuda_support import declines_device, with_unit_steps
from optprune_fast.ops.triton_support import MOST_PROGRAMS, OLDEST_CAPABILITY, device_of
from optprune_fast.runtime import triton

# Words of a step, 64 keys each: 8 keys a thread, which do not spill (tests/gpu/test_choose_bits_aot.py).
BLOCK, WARPS = 32, 8


def missing() -> str | None:
    return triton.missing()


def declines(words: Tensor, counts: Tensor, seeds: Tensor) -> str | None:
    if words.shape[0] > MOST_PROGRAMS:
        return f"takes at most {MOST_PROGRAMS} rows, not {words.shape[0]}"
    return None if triton.interpreted() else declines_device(words, OLDEST_CAPABILITY)


def run(words: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    out = words.new_empty(words.shape)
    if out.numel():
        launch(with_unit_steps(words), counts.contiguous(), seeds.contiguous(), out)
    return out


def launch(words: Tensor, counts: Tensor, seeds: Tensor, out: Tensor) -> None:
    from optprune_fast.ops.choose_bits.triton_kernel import choose_bits_kernel

    with device_of(words):
        choose_bits_kernel[(words.shape[0],)](words, counts, seeds, out, words.shape[1], words.stride(0), BLOCK=BLOCK,
                                              num_warps=WARPS)
