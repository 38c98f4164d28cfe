"""Compile GPU kernels for a card that is not there, and read what the machine code says.

Needs the `triton` package and nothing else: it brings NVIDIA's assembler and disassembler. No GPU, no driver.
"""

from __future__ import annotations

import collections
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class MachineCode:
    """What one compiled kernel asks of a multiprocessor.

    registers:     of each thread
    stack_bytes:   of each thread; more than 0 means that registers spill to memory
    shared_bytes:  shared memory of a program
    instructions:  how often each opcode occurs, modifiers included: {"HMMA.16816.F32": 32, …}
    """

    registers: int
    stack_bytes: int
    instructions: Mapping[str, int]
    shared_bytes: int = 0

    def count(self, opcode: str) -> int:
        """How often an instruction occurs whose opcode or modifiers hold `opcode`.

        >>> code = MachineCode(32, 0, {"HMMA.16816.F32": 2, "HMMA.16816.F32.BF16": 3, "FFMA": 7})
        >>> code.count("HMMA"), code.count("MMA"), code.count("FFMA"), code.count("LDL")
        (5, 5, 7, 0)
        """
        return sum(n for name, n in self.instructions.items() if opcode in name)


def compile_triton(kernel: Any, *, signature: Mapping[str, str], constants: Mapping[str, Any], aligned: Sequence[str],
                   capability: int, options: Mapping[str, Any]) -> MachineCode:
    """Compile a `@triton.jit` function as a launch with such arguments would.

    signature:   type of each argument, `"*fp16"`, `"i32"`; arguments in `constants` need none
    aligned:     arguments that 16 divides: pointers, and the steps that make wide loads possible. A launch finds out by
                 itself; without them every load is a scalar and most kernels spill
    capability:  80 for sm_80
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = {name: "constexpr" if name in constants else signature[name] for name in kernel.arg_names}
    attributes = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name in aligned}
    source = ASTSource(fn=kernel, signature=types, constexprs=dict(constants), attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(options))
    return replace(read(compiled.asm["cubin"]), shared_bytes=compiled.metadata.shared)


def read(cubin: bytes) -> MachineCode:
    """Read the machine code of a file that holds one kernel; it does not say what shared memory a launch gives it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        usage = re.search(r"REG:(\d+) STACK:(\d+)", _tool("cuobjdump", "-res-usage", path))
        listing = _tool("nvdisasm", "-c", path)
    if usage is None:
        raise ValueError("cuobjdump names no registers: the file holds no kernel")
    #   /*0120*/   @!P0 LDGSTS.E.BYPASS.128 [R4], [R2.64] ;
    opcodes = re.findall(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Zx0-9_.]*)", listing, re.MULTILINE)
    return MachineCode(int(usage[1]), int(usage[2]), collections.Counter(opcodes))


def _tool(name: str, *arguments: str | Path) -> str:
    import triton

    path = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    run = subprocess.run([path, *arguments], capture_output=True, text=True, check=True)
    return run.stdout + run.stderr
