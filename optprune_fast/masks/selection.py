"""Which parameters of a model are prunable: the rules of `include=` and `exclude=`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from optprune_fast.runtime.errors import message

Rule = str | type[nn.Module]
Rules = Rule | Sequence[Rule]

DEFAULT_TYPES: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv1d, nn.Conv2d)


def prunable_names(model: nn.Module, include: Rules | None, exclude: Rules | None) -> list[str]:
    """Names of the prunable parameters, tied ones once, in the order of `model.named_parameters()`.

    A rule is a module type (the `weight` of each such module) or a pattern with `*` and `?`, matched against
    parameter names and module names (a module stands for its `weight`).
    """
    rules: Iterable[Rule] = DEFAULT_TYPES if include is None else _listed(include)
    chosen: set[str] = set()
    for rule in rules:
        matches = _matches(model, rule)
        if include is not None:
            _require_match("include", rule, matches, model)
        chosen |= matches
    freed: set[str] = set()
    for rule in () if exclude is None else _listed(exclude):
        matches = _matches(model, rule)
        _require_match("exclude", rule, matches, model)
        freed |= matches
    # A tied parameter cannot be pruned under one of its names only: one excluded name frees it.
    return [name for name, aliases in tied_names(model).items() if aliases & chosen and not aliases & freed]


def tied_names(model: nn.Module) -> dict[str, set[str]]:
    """First name of every parameter -> all the names it goes by.

    >>> linear = nn.Linear(2, 2, bias=False)
    >>> tied = nn.ModuleDict({"a": linear, "b": linear})
    >>> sorted(tied_names(tied)["a.weight"])
    ['a.weight', 'b.weight']
    """
    first: dict[int, str] = {}
    names: dict[str, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(first.setdefault(id(parameter), name), set()).add(name)
    return names


def _listed(rules: Rules) -> Sequence[Rule]:
    return (rules,) if isinstance(rules, (str, type)) else rules


def _matches(model: nn.Module, rule: Rule) -> set[str]:
    parameters = dict(model.named_parameters(remove_duplicate=False))
    modules = dict(model.named_modules(remove_duplicate=False))
    if isinstance(rule, str):
        found = {name for name in parameters if fnmatchcase(name, rule)}
        owners = [name for name in modules if fnmatchcase(name, rule)]
    elif isinstance(rule, type) and issubclass(rule, nn.Module):
        found, owners = set(), [name for name, module in modules.items() if isinstance(module, rule)]
    else:
        raise TypeError(message("MaskLayout.of", "a rule is a name pattern or a module type", seen=rule))
    found |= {weight for owner in owners if (weight := f"{owner}.weight".removeprefix(".")) in parameters}
    return found


def _require_match(argument: str, rule: Rule, matches: set[str], model: nn.Module) -> None:
    if matches:
        return
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    listed = ", ".join(names[:12]) + (f", … ({len(names)} in all)" if len(names) > 12 else "")
    raise ValueError(message("MaskLayout.of", f"{argument} matches no parameter", f"the parameters are: {listed}",
                             **{argument: rule}))
