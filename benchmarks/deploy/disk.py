"""Bytes of a pruned network on disk, ours and others', and how long ours takes: JSON, and a Markdown table.

    python -m benchmarks.deploy.disk [--networks gaussian digits] [--dtypes float32 bfloat16 float16] [--quick]

Every figure is of a whole file: headers, biases and all. zstd gets the dense safetensors file with exact zeros, and the
same with the bytes of each tensor sorted by their place in a number. What is read back is compared bit by bit before
anything is timed; times are processor time, the lowest of some.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

import optprune_fast as opf
from benchmarks.store import ASIDE, write
from optprune_fast.bench import markdown
from optprune_fast.bench.machine import describe_machine
from optprune_fast.data import load
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.file import read
from optprune_fast.formats.foreign import to_scipy
from optprune_fast.models import MLP
from optprune_fast.models.train import train

SPARSITIES = (0.5, 0.8, 0.9, 0.95)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
LEVEL = 19
RIVALS = {"zstd": f"zstd -{LEVEL}, dense file", "planes": f"zstd -{LEVEL}, byte planes", "ct": "sparse-bitmask file",
          "npz": "SciPy npz"}


def gaussian(small: bool) -> nn.Module:
    """Independent weights: what the bound assumes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Linear(*((64, 32) if small else (2048, 1024)), bias=False)
        nn.init.normal_(layer.weight)
    return nn.Sequential(layer)


def digits(small: bool) -> nn.Module:
    """A trained network, whose rows and columns differ."""
    sizes = [64, 16, 10] if small else [64, 512, 512, 10]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return train(MLP(sizes), load("digits").train, epochs=1 if small else 20)


NETWORKS: dict[str, Callable[[bool], nn.Module]] = {"gaussian": gaussian, "digits": digits}


def rivals(state: dict[str, Tensor], masked: dict[str, Bitmask], folder: Path, model: nn.Module,
           mask: opf.PackedMasks) -> dict[str, int | None]:
    """Bytes of what else there is; None where it cannot hold this dtype."""
    import zstandard

    pack = zstandard.ZstdCompressor(level=LEVEL).compress
    dense = safetensors.torch.save(state)
    planes = b"".join(by_place(tensor) for tensor in state.values())
    ct = opf.export(model, mask, folder / "ct", format="sparse-bitmask").file_bytes
    npz: int | None = None
    if next(iter(masked.values())).dtype == torch.float32:
        from scipy.sparse import save_npz

        npz = 0
        for bitmask in masked.values():
            held = io.BytesIO()
            save_npz(held, to_scipy(bitmask).tocsr())
            npz += held.tell()
    return {"zstd": len(pack(dense)), "planes": len(pack(planes)), "ct": ct, "npz": npz}


def by_place(tensor: Tensor) -> bytes:
    """The first bytes of all numbers, then the second ones, and so on."""
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().reshape(-1, tensor.element_size())
    return np.ascontiguousarray(raw.T).tobytes()


def lowest(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of the shortest of some runs."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def measure(name: str, dtype: str, sparsity: float, rounds: int, small: bool) -> dict[str, Any]:
    model = NETWORKS[name](small).to(DTYPES[dtype])
    mask = opf.magnitude(model.float(), sparsity).mask
    model = model.to(DTYPES[dtype])
    words = {layer.name: mask.layer_words(layer.name)[0] for layer in mask.layout}
    masked = {layer: Bitmask.of(model.state_dict()[layer], words[layer]) for layer in words}
    state = model.state_dict() | {layer: bitmask.to_dense() for layer, bitmask in masked.items()}
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        report = opf.export(model, mask, folder / "a", target="disk")
        with read(folder / "a") as file:
            for layer, tensor in state.items():
                same = file[layer].to_dense().view(torch.uint8), tensor.view(torch.uint8)
                assert torch.equal(*same), layer
            decode = lowest(lambda: [file[layer].to_bitmask() for layer in masked], rounds)
        encode = lowest(lambda: opf.export(model, mask, folder / "a", target="disk"), rounds)
        others = rivals(state, masked, folder, model, mask)
        run = opf.export(model, mask, folder / "cpu", values="exponent")
    weights = sum(bitmask.numel for bitmask in masked.values())
    better = min(x for x in (others["zstd"], others["planes"]) if x)
    return {"network": name, "dtype": dtype, "sparsity": sparsity, "weights": weights,
            "dense_bytes": report.dense_bytes, "bound": report.bound, "bytes": report.file_bytes,
            "of_bound": report.file_bytes / report.bound, "below_zstd": 1 - report.file_bytes / better,
            "run_bytes": run.file_bytes, **others, "encode_weights_per_s": weights / encode,
            "decode_weights_per_s": weights / decode}


HEADER = ("network", "dtype", "sparsity", "of dense", "of the bound", "below the better zstd", *RIVALS.values(),
          "laid out to run", "encode, M weights/s", "decode, M weights/s")


def cells(row: dict[str, Any]) -> list[str]:
    shares = [row[rival] and row[rival] / row["dense_bytes"] for rival in RIVALS]
    return [row["network"], row["dtype"], f"{row['sparsity']:.0%}", f"**{row['bytes'] / row['dense_bytes']:.4f}**",
            f"{row['of_bound']:.3f}", f"{row['below_zstd']:.0%}",
            *("" if share is None else f"{share:.4f}" for share in shares),
            f"{row['run_bytes'] / row['dense_bytes']:.4f}", f"{row['encode_weights_per_s'] / 1e6:.0f}",
            f"{row['decode_weights_per_s'] / 1e6:.0f}"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    parser.add_argument("--sparsities", nargs="+", type=float, default=list(SPARSITIES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round: bytes are as good, times are not")
    parser.add_argument("--small", action="store_true", help="tiny networks: shows that everything runs, no result")
    options = parser.parse_args(arguments)
    machine = describe_machine()
    rows = []
    for name in options.networks:
        for dtype in options.dtypes:
            for sparsity in options.sparsities:
                print(f"{name}, {dtype}, {sparsity}", file=sys.stderr, flush=True)
                rows.append(measure(name, dtype, sparsity, 1 if options.quick or options.small else options.rounds,
                                    options.small))
    path = write("disk", "disk", rows, machine, vars(options), ASIDE if options.quick or options.small else None)
    print(markdown(HEADER, [cells(row) for row in rows]))
    print(f"\n{path}")


if __name__ == "__main__":
    main()
