"""Which of the shipped launches is fastest on the device at hand, where `OPTPRUNE_AUTOTUNE=1` asks for timing.

All that may be chosen is shipped, and so compiled without spills and within every card's shared memory. A launch is one
of tiles: no choice changes how far the sum of an output goes in a step, but its tensor cores may add in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import metadata

import torch
from torch import Tensor

from optprune_fast.ops.triton_support import Product
from optprune_fast.runtime import autotune
from optprune_fast.version import __version__


def timer(run: Callable[[], object]) -> float:
    """Milliseconds on the device, the median of some runs; the first ones compile."""
    from triton.testing import do_bench

    return float(do_bench(run, return_mode="median"))


def timed_on(device: torch.device) -> str:
    """The device as a key has it, or "" where nothing is timed."""
    if device.type != "cuda":
        return ""
    return "{} {}.{}".format(torch.cuda.get_device_name(device), *torch.cuda.get_device_capability(device))


def fastest(kernel: str, products: Sequence[Product], launch: Callable[[Product], object], x: Tensor, precision: str,
            **sizes: int) -> Product:
    """One of these products, which do the same: the first, unless there are more, and times are asked for.

    launch:  does the work, as often as it is called
    sizes:   what the time depends on; those within a factor of two are one class
    """
    if len(products) == 1 or not autotune.on() or not (device := timed_on(x.device)):
        return products[0]
    by_name = {name_of(product): product for product in products}
    key = key_of(kernel, device, x.dtype, precision, by_name, sizes)
    choice = autotune.known(key)
    if choice not in by_name:
        times = {name: timer(partial(launch, product)) for name, product in by_name.items()}
        choice = min(times, key=lambda name: times[name])
        autotune.remember(key, choice)
    return by_name[choice]


def name_of(product: Product) -> str:
    launch = product.launch
    return f"{launch.tile_b}x{launch.tile_o}, {launch.warps} warps, {launch.stages} stages" + (
        ", stacked" * product.stacked)


def key_of(kernel: str, device: str, dtype: torch.dtype, precision: str, names: Iterable[str], sizes: dict[str, int]
           ) -> str:
    """All that a choice depends on, one after the other.

    >>> key = key_of("masked_linear", "a card 9.0", torch.float32, "tf32", ["64x64"], {"inputs": 300, "outputs": 10})
    >>> key.split("; ")[2:]
    ['a card 9.0', 'masked_linear', 'float32', 'tf32', 'inputs 512', 'outputs 16', 'of 64x64']
    """
    classes = [f"{name} {1 << max(0, size - 1).bit_length()}" for name, size in sizes.items()]
    return "; ".join([f"optprune_fast {__version__}", f"triton {metadata.version('triton')}", device, kernel,
                      str(dtype).removeprefix("torch."), precision, *classes, f"of {' or '.join(names)}"])
