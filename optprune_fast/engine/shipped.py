"""Coefficients that decide which candidates go to torch, by instruction set; their keys are those of `cost`.

Measured by `python -m benchmarks.masked_forward.break_even`, on AMD EPYC (Zen 3), for scalar with torch held to SSE, on
2026-11-24 at commit 574773d, on a busy machine and before the dense rows of linear layers went by panels.
They are written down, rather than measured where they are used, so that candidates go the same way in every run.
"""

from __future__ import annotations

import platform

from optprune_fast.engine.cost import Coefficients

SHIPPED: dict[str, Coefficients] = {
    "avx2": Coefficients({
        "first level": 0.02441, "second level": 0.01146, "beyond": 0.02616,
        "relu": 0.3158, "relu6": 0.2341, "leaky_relu": 0.3065, "elu": 1.112, "gelu": 0.9676, "gelu_tanh": 1.443,
        "silu": 1.074, "sigmoid": 1.169, "tanh": 1.292, "hardswish": 0.3552, "hardsigmoid": 0.4232, "hardtanh": 0.3053,
        "softmax": 0.7989, "layer_norm": 0.6758, "matmul": 0.02541, "log_softmax": 0.9514,
        "max_pool": 0.179, "avg_pool": 0.1302, "mean": 0.2029, "loss": 1.039,
        "linear list": 0.04477, "linear dense": 0.02512, "linear words": 0.0327, "sums": 0.0724,
        "conv2d skip": 0.03289, "conv2d dense": 0.02359,
        "torch linear": 0.02307, "torch conv2d": 0.02605, "torch matmul": 0.0375, "torch element": 0.9203,
        "torch weight": 2.181, "torch call": 6182.0,
    }),
    "scalar": Coefficients({  # a fused multiply-add is a call there
        "first level": 0.1834, "second level": 0.1674, "beyond": 0.2032,
        "relu": 3.412, "relu6": 6.267, "leaky_relu": 7.502, "elu": 41.51, "gelu": 64.29, "gelu_tanh": 45.81,
        "silu": 25.35, "sigmoid": 18.72, "tanh": 119.6, "hardswish": 17.72, "hardsigmoid": 13.88, "hardtanh": 5.923,
        "softmax": 15.01, "layer_norm": 2.049, "matmul": 1.917, "log_softmax": 16.87,
        "max_pool": 0.2152, "avg_pool": 0.1726, "mean": 1.305, "loss": 7.398,
        "linear list": 1.568, "linear dense": 6.664, "linear words": 6.662, "sums": 0.0,
        "conv2d skip": 6.713, "conv2d dense": 7.526,
        "torch linear": 0.08991, "torch conv2d": 0.233, "torch matmul": 0.05283, "torch element": 2.656,
        "torch weight": 5.55, "torch call": 6182.0,
    }),
}


def kind_of(isa: str) -> str:
    """The key of an instruction set: plain code runs on any kind of CPU, and was measured on one.

    >>> kind_of("avx2")
    'avx2'
    """
    machine = platform.machine()
    return isa if isa != "scalar" or machine in ("x86_64", "AMD64") else f"{isa} on {machine}"
