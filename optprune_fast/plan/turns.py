"""What a kernel runs: the steps of a program, or parts of those that take turns."""

from __future__ import annotations

from optprune_fast.plan.groups import in_groups
from optprune_fast.plan.program import Program, Run
from optprune_fast.plan.stripes import in_stripes


def in_turns(program: Program) -> list[Run]:
    """The steps as they run: each with the index of the one that it is, or is a part of.

    Values between steps that take turns get smaller buffers: memory must not be assigned yet.
    """
    runs: list[Run] = []
    index = 0
    while index < len(program.steps):
        runs += in_stripes(program, index) or in_groups(program, index) or [(index, program.steps[index])]
        index = runs[-1][0] + 1
    return runs
