"""An installation without the compiled module works, and says what it lacks and how to get it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
import torch

from optprune_fast.ops.masked_linear import masked_linear, operation
from optprune_fast.runtime import compiled as loading
from optprune_fast.runtime import native
from optprune_fast.runtime.errors import BackendError

CALL = (torch.ones(2, 3), torch.ones(1, 3), torch.tensor([[[0b111]]]))


@pytest.fixture
def absent(replaced: Callable[..., AbstractContextManager[None]]) -> Iterator[None]:
    """What an installation made without a compiler looks like."""
    with replaced(native, "MODULE", "optprune_fast._not_compiled"):
        yield


def test_a_missing_module_is_a_reason_and_not_an_error(absent):
    choice = operation.resolve(*CALL)
    assert choice.backend == "numba"
    assert "no compiled module" in choice.declined["native"]
    assert masked_linear(*CALL).tolist() == [[[3.0], [3.0]]]


def test_the_reason_says_how_to_get_the_module(absent):
    reason = native.missing()
    assert reason is not None
    assert "g++ or clang++" in reason
    assert "OPTPRUNE_REQUIRE_NATIVE=1 pip install" in reason


def test_asking_for_the_missing_module_by_name_fails_with_the_reason(absent):
    with pytest.raises(BackendError, match=r"(?s)masked_linear: backend='native' cannot serve.*no compiled module"):
        masked_linear(*CALL, backend="native")
    with pytest.raises(BackendError, match=r"optprune_fast\._not_compiled: .*no compiled module"):
        native.module()
    assert native.isas() == ()


def test_a_module_that_does_not_load_gives_the_loaders_words(replaced):
    def refuse(name: str) -> None:
        raise ImportError("_native.so: invalid ELF header", name=name)

    with replaced(loading.importlib, "import_module", refuse):
        assert "does not load (_native.so: invalid ELF header)" in str(native.missing())


def test_an_error_inside_another_module_is_not_taken_for_a_missing_one(replaced):
    def refuse(name: str) -> None:
        raise ModuleNotFoundError("No module named 'something_else'", name="something_else")

    with (replaced(loading.importlib, "import_module", refuse),
          pytest.raises(ModuleNotFoundError, match="something_else")):
        native.missing()


def test_a_module_of_another_version_is_an_error(compiled, replaced):
    with (replaced(loading, "__version__", "9.9.9"),
          pytest.raises(BackendError, match=r"(?s)another version.*package  '9\.9\.9'.*pip install")):
        masked_linear(*CALL, backend="native")


def test_a_kernel_that_an_old_build_lacks_is_a_reason(compiled):
    assert "the compiled module has no masked_attention; build it again" in str(native.missing("masked_attention"))
    assert native.missing("masked_linear") is None
