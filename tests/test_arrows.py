"""The arrows of the design: who may import whom. Imports point downwards only, in Python and in C++.

    cli  >  report  >  recipe, bench  >  search | deploy  >  engine | formats  >  plan  >  masks  >  ops  >  runtime

The left column (engine, search, tuning) and the right one (formats, deploy) never meet. `data` and `models` are leaves
that only the command line uses; `testing` may look at operations, masks and runtime, and nothing in the package uses
it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "optprune_fast"
CSRC = ROOT / "csrc"

LEVEL = {"runtime": 0, "ops": 1, "masks": 2, "plan": 3, "engine": 4, "formats": 4, "search": 5, "tuning": 5,
         "deploy": 5, "recipe": 6, "bench": 6, "report": 7, "cli": 8}
LEFT, RIGHT = {"engine", "search", "tuning"}, {"formats", "deploy"}
# Folders beside the picture: what each may import.
ASIDE = {"data": {"runtime"}, "models": {"runtime"}, "testing": {"runtime", "ops", "masks"}}
# The public names, those that are not built yet, and `python -m optprune_fast`.
FRONT_DOOR = {"optprune_fast", "optprune_fast.coming", "optprune_fast.__main__"}
KERNEL_ARROWS = {"moves": {"population"},  # moves rerun parts of a population's program
                 "look_up": {"population"},  # the first layer of such a program
                 "network": {"population", "sparse_linear"},  # the same programs, their weights in slices
                 "sparse_conv2d": {"sparse_linear"}}  # the same rows over shifted planes
LEAF_USERS = {"cli"}  # who in the package may import data and models
BACKENDS = ("cuda", "triton", "native", "numba", "torch")
# Third-party packages that may be imported in these files only, so that nobody else pays for them.
HEAVY = {"numba": r"(runtime/doctor|ops/numba_support|(ops/.+|engine|formats|bench)/numba_\w+)\.py",
         "llvmlite": r"(engine|ops/.+)/numba_\w+\.py",
         "triton": r"(runtime/triton|ops/(.+/)?triton_\w+|testing/(aot|masked_code))\.py",
         "matplotlib": r"report/.+\.py", "typer": r"cli/.+\.py", "rich": r"cli/.+\.py"}

FILES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".") for name in FILES}


# ---- reading imports


def imports(source: str, modules: set[str] = MODULES) -> Iterator[tuple[str, int]]:
    """(module, line) of every import, wherever it stands in the file; relative ones start with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            for alias in node.names:  # `from package import x` imports the module package.x where there is one
                full = f"{base}.{alias.name}"
                yield (full if full in modules else base), node.lineno
        elif (isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__"))
              and node.args and isinstance(node.args[0], ast.Constant)):
            yield str(node.args[0].value), node.lineno


def folder(module: str) -> str:
    """The second part of the name: `ops` of `optprune_fast.ops.words`; empty for the package itself."""
    return [*module.split("."), ""][1]


# ---- the rules


def violations(name: str, source: str) -> list[str]:
    """What is wrong with the imports of the file `name` (`optprune_fast/ops/words.py`)."""
    own = name.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".")
    found = []
    for module, line in imports(source):
        reason = None
        if module.startswith("."):
            reason = "relative imports hide their target"
        elif module.split(".")[0] != "optprune_fast":
            reason = heavy(name, module)
        elif own not in FRONT_DOOR and module != "optprune_fast.version":
            reason = upward(folder(own), module) or among_operations(name, own, module)
        if reason:
            found.append(f"{name}:{line}: {module}: {reason}")
    return found


def heavy(name: str, module: str) -> str | None:
    where = HEAVY.get(module.split(".")[0])
    if where is None or re.fullmatch(where, name.removeprefix("optprune_fast/")):
        return None
    return f"only {where} may import it"


def upward(source: str, module: str) -> str | None:
    target = folder(module)
    if target == source and source:
        return None
    if not target:
        return "the front door is for users"
    if source in ASIDE:
        return None if target in ASIDE[source] else f"{source} may import {', '.join(sorted(ASIDE[source]))} only"
    if target in ASIDE:
        return None if target != "testing" and source in LEAF_USERS else f"{source or 'a module'} may not use {target}"
    if target not in LEVEL or source not in LEVEL:
        return "a folder that the picture does not show"
    if {source, target} & LEFT and {source, target} & RIGHT:
        return "the left and the right column never meet"
    return None if LEVEL[target] < LEVEL[source] else f"{source} lies no higher than {target}"


def among_operations(name: str, own: str, module: str) -> str | None:
    """One operation is one folder: the contract, its meaning, implementations that do not know of one another.

    A file whose name starts with a backend belongs to that backend (numba_impl.py, triton_kernel.py); it may import
    runtime, what all operations share (ops/words.py, ops/checks.py, ops/<backend>_support.py, ops/cuda_support.py for
    Triton), and from its own folder the files of its own backend and those of none (geometry.py): not the contract,
    which dispatches to it, and not the meaning, by which it is judged.
    """
    if folder(own) == "testing":
        return None
    operation, _, target = module.removeprefix("optprune_fast.ops.").partition(".")
    target_backend = backend_of(target)
    path = name.split("/")
    in_operation = len(path) == 4 and path[1] == "ops"
    mine = backend_of(path[3].removesuffix(".py")) if in_operation else None
    if module.startswith("optprune_fast.ops.") and target_backend and not (mine == target_backend
                                                                           and operation == path[2]):
        return "implementations are reached by dispatch alone"
    if not in_operation or folder(module) != "ops":
        return None
    shared = f"optprune_fast/ops/{operation}.py" in FILES
    if mine and shared and operation.endswith("_support"):
        owner = operation.removesuffix("_support")
        return None if owner == mine or (owner, mine) == ("cuda", "triton") else f"belongs to {owner}"
    if shared:
        return None
    if operation != path[2]:
        return "operations do not know of one another"
    if mine and target in ("", "reference"):
        return f"an implementation may not import {'its contract' if not target else 'its oracle'}"
    return None


def backend_of(file: str) -> str | None:
    return next((b for b in BACKENDS if file.startswith(f"{b}_")), None)


def c_violations(name: str, source: str) -> list[str]:
    """What is wrong with the includes of the C++ file `name` (`csrc/kernels/masked_linear/avx2.cpp`)."""
    found = []
    _, layer, *rest = name.split("/")
    for target in re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', source, re.MULTILINE):
        reason = None
        if re.match(r"(torch|ATen|c10|caffe2)/", target):
            reason = "nothing here knows torch"
        elif re.match(r"pybind11/|Python\.h$|structmember\.h$", target) and layer != "bindings":
            reason = "bindings alone know Python"
        elif target in ("iostream", "cstdio", "stdio.h", "print") and layer != "bindings":
            reason = "kernels do not print"
        elif target.startswith("kernels/") and layer == "common":
            reason = "what is common knows no kernel"
        elif (target.startswith("kernels/") and layer == "kernels"
              and target.split("/")[1] not in {rest[0], *KERNEL_ARROWS.get(rest[0], set())}):
            reason = "kernels of different operations do not know of one another"
        elif target.startswith("bindings/") and layer != "bindings":
            reason = "nothing but bindings includes bindings"
        elif target.startswith("."):
            reason = "relative includes hide their target"
        if reason:
            found.append(f"{name}: {target}: {reason}")
    return found


# ---- the tree obeys


@pytest.mark.parametrize("name", FILES)
def test_imports_point_downwards(name: str) -> None:
    assert violations(name, FILES[name]) == []


C_FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(CSRC.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("name", C_FILES)
def test_includes_point_downwards(name: str) -> None:
    assert c_violations(name, C_FILES[name].read_text()) == []


def test_there_is_something_to_check() -> None:
    assert {"optprune_fast/ops/words.py", "optprune_fast/runtime/dispatch.py"} <= set(FILES)
    assert {"csrc/bindings/native.cpp", "csrc/kernels/masked_linear/scalar.cpp"} <= set(C_FILES)


def test_runtime_names_no_operation() -> None:
    operations = {name.split("/")[2] for name in FILES if re.fullmatch(r"optprune_fast/ops/\w+/__init__\.py", name)}
    assert len(operations) > 3
    for name, source in FILES.items():
        if name.startswith("optprune_fast/runtime/"):
            assert not [o for o in operations if re.search(rf"\b{o}\b", source)], name


def test_the_front_door_is_cheap() -> None:
    """No accelerator's package, no plots, no command line, no CUDA context until somebody asks for them."""
    code = """
import sys, optprune_fast, torch
for name in dir(optprune_fast):
    getattr(optprune_fast, name)
print([m for m in ("triton", "numba", "matplotlib", "typer", "rich", "sklearn") if m in sys.modules])
print(torch.cuda.is_initialized())
"""
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["[]", "False"]


# ---- the checker itself

BAD = [
    ("runtime/a.py", "from optprune_fast.ops.words import pack", "runtime lies no higher than ops"),
    ("ops/a.py", "from optprune_fast.coming import coming", "picture does not show"),
    ("runtime/a.py", "import optprune_fast.engine", "runtime lies no higher than engine"),
    ("ops/a.py", "def f():\n    from optprune_fast.masks import packed", "ops lies no higher than masks"),
    ("ops/a.py", "if TYPE_CHECKING:\n    from optprune_fast.masks.packed import PackedMasks", "no higher than masks"),
    ("masks/a.py", "import importlib\nimportlib.import_module('optprune_fast.engine')", "no higher than engine"),
    ("masks/a.py", "from optprune_fast import engine", "no higher than engine"),
    ("masks/a.py", "from ..ops import words", "relative imports"),
    ("masks/a.py", "from . import packed", "relative imports"),
    ("masks/a.py", "import optprune_fast as opf", "front door"),
    ("engine/a.py", "from optprune_fast.formats import csr", "never meet"),
    ("search/a.py", "from optprune_fast.formats import csr", "never meet"),
    ("deploy/a.py", "from optprune_fast.engine import evaluator", "never meet"),
    ("formats/a.py", "from optprune_fast.engine import evaluator", "never meet"),
    ("engine/a.py", "from optprune_fast.search import genetic", "no higher than search"),
    ("tuning/a.py", "from optprune_fast.search import genetic", "tuning lies no higher than search"),
    ("tuning/a.py", "from optprune_fast.formats import csr", "never meet"),
    ("recipe/a.py", "from optprune_fast.report import table", "no higher than report"),
    ("search/a.py", "from optprune_fast.cli import main", "no higher than cli"),
    ("search/a.py", "from optprune_fast.data import load", "may not use data"),
    ("recipe/a.py", "from optprune_fast.models import MLP", "may not use models"),
    ("cli/a.py", "from optprune_fast.testing import samples", "may not use testing"),
    ("data/a.py", "from optprune_fast.ops import words", "may import runtime only"),
    ("models/a.py", "from optprune_fast.data import load", "may import runtime only"),
    ("testing/a.py", "from optprune_fast.engine import evaluator", "may import masks, ops, runtime only"),
    ("masks/a.py", "import optprune_fast.novelty", "picture does not show"),
    ("novelty/a.py", "import optprune_fast.runtime.errors", "picture does not show"),
    ("ops/masked_linear/numba_impl.py", "from optprune_fast.ops.masked_linear.torch_impl import run", "dispatch alone"),
    ("ops/masked_linear/numba_impl.py", "from optprune_fast.ops.masked_linear import torch_impl", "dispatch alone"),
    ("ops/masked_linear/numba_impl.py", "from optprune_fast.ops.masked_linear import triton_kernel", "dispatch alone"),
    ("ops/masked_linear/numba_impl.py", "from optprune_fast.ops.masked_linear import check", "its contract"),
    ("ops/masked_linear/numba_impl.py", "from optprune_fast.ops.masked_linear import reference", "its oracle"),
    ("ops/masked_linear/numba_impl.py", "from optprune_fast.ops import native_support", "belongs to native"),
    ("ops/masked_linear/native_impl.py", "from optprune_fast.ops import triton_support", "belongs to triton"),
    ("ops/masked_linear/numba_impl.py", "from optprune_fast.ops.masked_conv2d.geometry import output_shape",
     "do not know of one another"),
    ("ops/masked_conv2d/numba_impl.py", "from optprune_fast.ops.masked_linear.numba_impl import run", "dispatch alone"),
    ("ops/masked_linear/__init__.py", "from optprune_fast.ops.masked_linear.torch_impl import run", "dispatch alone"),
    ("ops/masked_linear/__init__.py", "from optprune_fast.ops import masked_conv2d", "do not know of one another"),
    ("engine/a.py", "from optprune_fast.ops.masked_linear import native_impl", "dispatch alone"),
    ("ops/checks.py", "import numba", "may import it"),
    ("engine/compiled.py", "import numba", "may import it"),
    ("search/numba_a.py", "from llvmlite import ir", "may import it"),
    ("engine/a.py", "import triton.language as tl", "may import it"),
    ("recipe/a.py", "def f():\n    import matplotlib.pyplot as plt", "may import it"),
    ("report/a.py", "import rich", "may import it"),
]


@pytest.mark.parametrize(("name", "source", "text"), BAD)
def test_a_bad_import_is_found(name: str, source: str, text: str) -> None:
    found = violations(f"optprune_fast/{name}", source)
    assert len(found) == 1
    assert text in found[0]


GOOD = [
    ("__init__.py", "from optprune_fast.recipe import prune\nfrom optprune_fast.masks import PackedMasks"),
    ("runtime/a.py", "from optprune_fast.runtime.errors import message\nfrom optprune_fast.version import __version__"),
    ("search/a.py", "from optprune_fast.engine import evaluator\nfrom optprune_fast.masks import packed"),
    ("deploy/a.py", "from optprune_fast.formats import csr\nfrom optprune_fast.plan import capture"),
    ("recipe/a.py", "from optprune_fast.search import genetic\nfrom optprune_fast.deploy import convert"),
    ("recipe/a.py", "from optprune_fast.tuning.finetune import finetune"),
    ("cli/a.py", "import typer\nfrom optprune_fast.data import load\nfrom optprune_fast.models import MLP"),
    ("report/a.py", "import matplotlib"),
    ("data/a.py", "from optprune_fast.data.idx import read\nfrom optprune_fast.runtime.errors import message"),
    ("testing/a.py", "from optprune_fast.ops.masked_linear import torch_impl\nimport optprune_fast.masks.packed"),
    ("ops/masked_linear/numba_impl.py", "import torch\nfrom optprune_fast.ops import numba_support\nimport numba"),
    ("ops/masked_linear/triton_impl.py", "from optprune_fast.ops.masked_linear.triton_kernel import kernel"),
    ("ops/masked_linear/triton_impl.py", "from optprune_fast.ops.cuda_support import declines_device"),
    ("ops/masked_linear/triton_impl.py", "from optprune_fast.ops.triton_support import product"),
    ("ops/masked_conv2d/numba_impl.py", "from optprune_fast.ops.masked_conv2d.geometry import output_shape"),
    ("ops/masked_conv2d/__init__.py", "from optprune_fast.ops.masked_conv2d.geometry import output_shape"),
    ("ops/masked_conv2d/reference.py", "from optprune_fast.ops.words import unpack"),
    ("engine/a.py", "from optprune_fast.ops import masked_linear"),
]


@pytest.mark.parametrize(("name", "source"), GOOD)
def test_a_good_import_passes(name: str, source: str) -> None:
    assert violations(f"optprune_fast/{name}", source) == []


@pytest.mark.parametrize(("name", "include", "text"), [
    ("kernels/masked_linear/avx2.cpp", "<torch/extension.h>", "torch"),
    ("bindings/native.cpp", "<ATen/ATen.h>", "torch"),
    ("kernels/masked_linear/avx2.cpp", "<pybind11/pybind11.h>", "bindings alone"),
    ("common/thread_pool.cpp", "<Python.h>", "bindings alone"),
    ("kernels/masked_linear/cuda.cu", "<cstdio>", "print"),
    ("common/buffer.h", '"kernels/masked_linear/masked_linear.h"', "no kernel"),
    ("kernels/masked_linear/body.h", '"kernels/masked_conv2d/body.h"', "one another"),
    ("kernels/masked_linear/body.h", '"../masked_conv2d/body.h"', "relative"),
    ("kernels/masked_linear/body.h", '"bindings/native.h"', "nothing but bindings"),
])
def test_a_bad_include_is_found(name: str, include: str, text: str) -> None:
    [found] = c_violations(f"csrc/{name}", f"// text\n#include <vector>\n  # include {include}\n")
    assert text in found


def test_a_good_include_passes() -> None:
    assert c_violations("csrc/bindings/a.cpp", '#include <pybind11/pybind11.h>\n#include "kernels/x/x.h"') == []
    assert c_violations("csrc/kernels/x/avx2.cpp", '#include <immintrin.h>\n#include "kernels/x/x.h"') == []
