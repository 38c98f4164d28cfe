"""Throws damaged files, planes and streams at the readers, which may refuse them; any other error fails.

    python scripts/fuzz_formats.py [--seconds 60] [--target file planes streams foreign] [--seed 0]
    python scripts/fuzz_formats.py --guided file [--seconds 60] [options of libFuzzer]

The first makes random mutations; the second lets Atheris choose inputs that reach new branches of a reader, where it is
installed (extra `fuzz`; there is none for Python 3.10), and says so where it is not.

Digests are made right again after the damage, or nothing behind them would be reached. Memory is limited, so that a
reader that believes a size fails here.
"""

from __future__ import annotations

import argparse
import atexit
import hashlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FunctionType

import safetensors.torch
import torch
from torch import Tensor

from optprune_fast.formats import compressed_tensors
from optprune_fast.formats.base import SparseFormat
from optprune_fast.formats.bitmask import Bitmask
from optprune_fast.formats.bits import packed
from optprune_fast.formats.entropy import Entropy
from optprune_fast.formats.file import read, write
from optprune_fast.formats.registry import FORMATS
from optprune_fast.runtime.errors import IntegrityError
from optprune_fast.runtime.files import DIGEST, ZEROS

MEMORY = 1 << 30  # what a reader may take on top
_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)


def weights() -> dict[str, SparseFormat]:
    """One small weight in every format."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 36, generator=generator).bfloat16()
    draw = torch.rand(8, 9, 4, generator=generator)
    kept = (draw >= draw.sort(-1).values[..., 2:3]).flatten(1)
    kept[:4, :8] = False
    bitmask = Bitmask.of(weight, packed(kept))
    blocks = Bitmask.of(weight, packed(torch.arange(36).expand(8, 36) < 8))
    made = {name: kind.from_bitmask(blocks if name == "block" else bitmask) for name, kind in FORMATS.items()}
    return {**made, "coded": FORMATS["tiled_index"].from_dense(weight, packed(kept), values="exponent")}


# ---- targets: bytes in, nothing out; what they let through is sound


def file(data: bytes) -> None:
    """A whole file: its header and, with right digests, whatever follows."""
    path = _FOLDER / "file"
    path.write_bytes(signed(data))
    try:
        with read(path) as found:
            found.verify()
    except IntegrityError:
        pass


def planes(data: bytes) -> None:
    """The planes of one format, by the first byte; the others say which bytes of them are replaced."""
    if len(data) < 2:
        return
    held = _WEIGHTS[sorted(_WEIGHTS)[data[0] % len(_WEIGHTS)]]
    damaged = {name: _overwritten(plane, data[1 + k :: 2]) for k, (name, plane) in enumerate(held.planes().items())}
    try:
        found = type(held).from_planes(held.shape, held.dtype, damaged, held.parameters())
        found.validate()
        _require_sound(found)
    except ValueError:
        pass


def streams(data: bytes) -> None:
    """Coded streams: lengths and counts from the first bytes."""
    if len(data) < 6:
        return
    rows, columns, kept, mask, exponents, zeros = data[:6]
    rest = torch.frombuffer(bytearray(data[6:] or b"\0"), dtype=torch.uint8)[: len(data) - 6]
    held = Entropy((rows, columns), torch.float16, kept, (mask, exponents), bool(zeros & 1), (15, 14), zeros % 12, rest)
    try:
        held.validate()
        _require_sound(held)
    except ValueError:
        pass


def foreign(data: bytes) -> None:
    """A file of compressed-tensors."""
    path = _FOLDER / "foreign"
    path.write_bytes(data)
    try:
        for held in compressed_tensors.read(path).values():
            if isinstance(held, Bitmask):
                _require_sound(held)
    except IntegrityError:
        pass


TARGETS: dict[str, Callable[[bytes], None]] = {"file": file, "planes": planes, "streams": streams, "foreign": foreign}


def _require_sound(held: SparseFormat) -> None:
    bitmask = held.to_bitmask()
    bitmask.validate()
    assert bitmask.nnz == held.nnz
    assert held.to_dense().shape == torch.Size(held.shape)


def _overwritten(plane: Tensor, data: bytes) -> Tensor:
    raw = plane.contiguous().flatten().view(torch.uint8).clone()
    for at, value in zip(data[::2], data[1::2], strict=False):
        if raw.numel():
            raw[at * 7 % raw.numel()] = value
    return raw.view(plane.dtype).view(plane.shape)


def signed(content: bytes) -> bytes:
    """The same file with the digest of its header made right."""
    length = int.from_bytes(content[:8], "little")
    at = content.find(DIGEST) + len(DIGEST)
    if not 8 < at <= length - len(ZEROS):
        return content
    header = content[:at] + ZEROS.encode() + content[at + len(ZEROS) : 8 + length]
    return content[:at] + hashlib.sha256(header).hexdigest().encode() + content[at + len(ZEROS) :]


# ---- mutations


def seeds() -> dict[str, bytes]:
    """A sound input for each target."""
    write(_FOLDER / "seed", _WEIGHTS)
    bitmask = _WEIGHTS["bitmask"].to_bitmask()
    parts, _ = compressed_tensors.compress(bitmask, "sparse-bitmask")
    coded = Entropy.from_bitmask(Bitmask.of(bitmask.to_dense().half(), bitmask.words))
    start = bytes([*coded.shape, coded.kept, *coded.lengths, coded.zeros << 1 & 254 | coded.contextual])
    return {"file": (_FOLDER / "seed").read_bytes(), "planes": bytes(range(40)),
            "streams": start + coded.data.numpy().tobytes(),
            "foreign": safetensors.torch.save({f"a.{name}": tensor for name, tensor in parts.items()})}


def mutated(data: bytes, source: random.Random) -> bytes:
    """A few flips, removals, repetitions and numbers that mean something."""
    out = bytearray(data)
    for _ in range(1 + source.randrange(4)):
        at = source.randrange(max(1, len(out)))
        kind = source.randrange(5)
        if kind == 0 and out:
            out[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            del out[at : at + source.randrange(1, 9)]
        elif kind == 2:
            out[at:at] = out[at : at + source.randrange(1, 9)]
        elif kind == 3:
            out[at : at + 1] = source.choice((b"\0", b"\xff", b"9", b"-", b"[", b"}", b"1e9", b"99999999999", b'"'))
        else:
            out[at : at + 8] = source.choice((0, 1, 255, 2**31, 2**63 - 1)).to_bytes(8, "little")
    return bytes(out)


def run(target: str, seconds: float, seed: int) -> int:
    """Mutations of the sound input for so long; how many there were. An error that is none of ours passes through."""
    source, base, count = random.Random(seed), seeds()[target], 0
    TARGETS[target](base)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        data = mutated(base, source)
        try:
            TARGETS[target](data)
        except BaseException:
            print(f"{target}: input {count} of seed {seed} fails: {data.hex()}", file=sys.stderr)
            raise
        count += 1
    return count


def guided(target: str, seconds: float, options: list[str]) -> None:
    """Inputs that reach new branches of the readers, from the sound one on; Atheris ends the process."""
    try:
        import atheris
    except ImportError:
        print(f"{target}: Atheris is not installed (pip install 'optprune-fast[fuzz]', Python 3.11 or newer): "
              f"random mutations, {run(target, seconds, seed=0)} inputs, none passed through", flush=True)
        return
    for name, module in list(sys.modules.items()):
        if name.startswith(("optprune_fast.formats.", "optprune_fast.runtime.")) and "numba" not in name:
            owners = [module, *(kind for kind in vars(module).values() if isinstance(kind, type))]
            for function in {f for owner in owners for f in vars(owner).values() if isinstance(f, FunctionType)}:
                if function.__module__ == name:
                    atheris.instrument_func(function)
    (_FOLDER / "corpus").mkdir()
    (_FOLDER / "corpus" / "seed").write_bytes(seeds()[target])
    ends = [f"-max_total_time={seconds:.0f}", "-verbosity=0", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *ends, *options, str(_FOLDER / "corpus")], TARGETS[target])
    print(f"{target}: guided by Atheris, {seconds:.0f} seconds", flush=True)
    atheris.Fuzz()


def limit_memory() -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, -1))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="for each target")
    parser.add_argument("--target", nargs="+", choices=TARGETS, default=list(TARGETS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--guided", choices=TARGETS, help="let Atheris choose the inputs; the rest are its options")
    options, rest = parser.parse_known_args(arguments)
    if sys.platform == "linux":
        for name, data in seeds().items():  # what is compiled and opened once does not count
            TARGETS[name](data)
        limit_memory()
    if options.guided:
        guided(options.guided, options.seconds, rest)
        return
    for target in options.target:
        print(f"{target}: {run(target, options.seconds, options.seed)} inputs, none passed through", flush=True)


_WEIGHTS = weights()

if __name__ == "__main__":
    main()
