"""Launches of Triton kernels as a GPU would get them, up to the launch: test_triton_aot.py runs this.

Triton looks at the arguments of a call (sizes of 1, multiples of 16, types) and compiles for them; what it makes of
ours only such a call can show. A driver that is none stands for that of a card, for the whole process.
"""

from __future__ import annotations

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from optprune_fast.ops.choose_bits import triton_impl as bits
from optprune_fast.ops.choose_bits import triton_kernel as bits_kernel
from optprune_fast.ops.masked_conv2d import triton_impl as conv2d
from optprune_fast.ops.masked_conv2d import triton_kernel as conv2d_kernel
from optprune_fast.ops.masked_linear import triton_impl as linear
from optprune_fast.ops.masked_linear import triton_kernel as linear_kernel
from optprune_fast.ops.moved_linear import triton_impl as moved
from optprune_fast.ops.moved_linear import triton_kernel as moved_kernel
from optprune_fast.ops.moved_linear.terms import Entries, Next, Terms
from optprune_fast.ops.rows_linear import triton_few, triton_many
from optprune_fast.ops.rows_linear import triton_impl as rows
from optprune_fast.ops.triton_support import Epilogue


class Driver:
    """What compiling asks of a driver."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


class Compiled:
    """A kernel that is compiled where it would be launched."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        def launch(*arguments, **options):
            code = self.kernel.warmup(*arguments, grid=grid, **options)
            print(self.kernel.__name__, *grid, "cubin" in code.asm)
        return launch


driver.set_active(Driver())
for module, name in ((linear_kernel, "masked_linear_kernel"), (linear_kernel, "masked_loss_kernel"),
                     (conv2d_kernel, "masked_conv2d_kernel"), (bits_kernel, "choose_bits_kernel"),
                     (triton_few, "one_by_words_kernel"), (triton_few, "few_by_columns_kernel"),
                     (triton_many, "many_kernel"), (moved_kernel, "moved_linear_kernel"),
                     (moved_kernel, "moved_loss_kernel"), (moved_kernel, "next_loss_kernel"),
                     (moved_kernel, "moved_inputs_kernel")):
    setattr(module, name, Compiled(getattr(module, name)))
x, weight, words = torch.zeros(8, 64), torch.zeros(48, 64), torch.zeros(3, 48, 1, dtype=torch.int64)
linear.fused(x, weight, words, precision="bf16", epilogue=Epilogue(torch.zeros(48), "hardtanh", (float("-inf"), 1.0)))
linear.losses(torch.zeros(3, 8, 64), weight, words, None, torch.zeros(8, dtype=torch.int64), "error", "tf32x3")
conv2d.fused(torch.zeros(2, 1, 5, 5), torch.zeros(1, 1, 3, 3), torch.zeros(2, 1, 1, dtype=torch.int64), (1, 1), (1, 1),
             (1, 1), 1, precision="tf32")
bits.run(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
words, columns = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, dtype=torch.uint8)
counts, starts = torch.zeros(1, dtype=torch.int16), torch.zeros(2, dtype=torch.int32)
for samples, places in ((1, words), (2, words), (1, columns), (17, columns)):
    rows.run(torch.zeros(samples, 1), (1, 1), torch.zeros(1), places, counts, starts, None)
rows.run(torch.zeros(17, 1), (1, 1), torch.zeros(1), words, counts, starts.long(), torch.zeros(1))
one, starts, line = torch.zeros(1, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), torch.zeros(1, 8)
terms = Terms(one, starts, line, one, starts, torch.zeros(1), line)
relu, classes = Epilogue(None, "relu"), torch.zeros(8, dtype=torch.int64)
moved.fused(torch.zeros(8, 48), torch.zeros(1, 48), terms, relu)
moved.fused(torch.zeros(8, 1), torch.zeros(1, 1, dtype=torch.bfloat16), terms, relu, torch.bfloat16)
moved.losses(torch.zeros(8, 10), torch.zeros(1, 10), terms, classes, "cross_entropy")
last = Next(torch.zeros(1, 48), torch.zeros(2, 1, 1, dtype=torch.int64), None, "tf32")
moved.next_losses(torch.zeros(8, 48), torch.zeros(1, 48), terms, relu, last, classes, "error")
moved.moved_inputs(torch.zeros(4, 8), Entries(one, one, one, one, torch.zeros(1)), line, 1, relu, torch.float16)
