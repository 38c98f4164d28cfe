"""What the documents say is so: paths exist, examples run, commands and names are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import optprune_fast as opf
from optprune_fast.masks.layout import MaskLayout
from optprune_fast.runtime import doctor

ROOT = Path(__file__).parents[1]
PAGES = {p.relative_to(ROOT).as_posix(): p.read_text()
         for p in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]}
BY_PAGE = pytest.mark.parametrize("page", PAGES)

# What stands for the placeholders of docs/ADDING.md: a template is right if it is right for these.
EXAMPLE_OF = {"<op>": "masked_linear", "<isa>": "avx2", "<backend>": "native", "<name>": "genetic"}
GENERATED = ("runs/",)  # written by a command, not tracked


def fenced(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def paths(text: str) -> list[str]:
    """Paths in backticks, and those that start a line of the tree; both are told by their slash."""
    quoted = re.findall(r"`([\w.<>-]+/[\w.<>/-]*)`", prose(text))
    tree = [path for block in fenced(text) for path in re.findall(r"^((?:[\w<>-]+/)+)(?: |$)", block, re.MULTILINE)]
    return [path for path in [*quoted, *tree] if not path.startswith(GENERATED)]


def exists(path: str) -> bool:
    for placeholder, example in EXAMPLE_OF.items():
        path = path.replace(placeholder, example)
    return (ROOT / path).exists() or (ROOT / "optprune_fast" / path).exists()


def headings(text: str) -> set[str]:
    """Anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


# ---- paths and links


@BY_PAGE
def test_every_path_exists(page: str) -> None:
    assert [path for path in paths(PAGES[page]) if not exists(path)] == []


def test_paths_are_found_where_they_stand() -> None:
    text = "see `ops/<op>/x.py` and `a | b`\n```\ncsrc/nothing/  text\n```\n"
    assert paths(text) == ["ops/<op>/x.py", "csrc/nothing/"]
    assert not exists("csrc/nothing/")
    assert exists("csrc/kernels/<op>/<isa>.cpp")
    assert len(paths(PAGES["docs/ADDING.md"])) > 30
    assert len(paths(PAGES["docs/DESIGN.md"])) > 10


@BY_PAGE
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[page]):
        file, _, anchor = target.partition("#")
        linked = (ROOT / page).parent / file if file else ROOT / page
        assert linked.is_file(), target
        assert not anchor or anchor in headings(linked.read_text()), target


# ---- examples

EXAMPLES = fenced(PAGES["README.md"], "python")


def test_the_first_example_has_ten_lines() -> None:
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) == 10


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_example_runs_as_it_stands(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "example"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile(EXAMPLES[number], "README.md", "exec"), names)
    assert capsys.readouterr().out
    if number == 0:
        result = opf.Result.load(tmp_path / "runs" / "digits")
        assert result.fitness < result.baseline
        assert result.kept_small > 0


def test_the_layout_of_the_formats_page_is_one() -> None:
    text = next(block.strip() for block in fenced(PAGES["docs/FORMATS.md"]) if block.startswith("[["))
    layout = MaskLayout.from_json(text)
    assert layout.to_json() == text
    assert layout.n == 64 * 64 + 100 * 64


# ---- names

TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_every_make_target_that_is_named_exists() -> None:
    named = {target for text in [*PAGES.values(), (ROOT / ".ci" / "run").read_text(), (ROOT / "Makefile").read_text()]
             for target in re.findall(r"(?:^#? *|`)make ([a-z][\w-]*)", text, re.MULTILINE)}
    assert {"demo", "test", "installs", "gpu-check", "doctor", "lint", "clean"} <= named
    assert named - TARGETS == set()


def command_lines() -> list[list[str]]:
    """Words of every `optprune-fast …` in the pages: the command, then its options."""
    text = "\n".join(PAGES.values())
    lines = re.findall(r"(?:^|`)optprune-fast ([^`\n#]*)", text, re.MULTILINE)
    return sorted([line.split()[0], *re.findall(r"--[a-z-]+", line)] for line in set(lines))


def help_text(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    from optprune_fast.cli import main

    monkeypatch.setenv("COLUMNS", "200")  # nothing is cut off
    monkeypatch.setattr("sys.argv", ["optprune-fast", *arguments, "--help"])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code in (0, None)
    return re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)


def test_every_command_and_option_that_is_named_exists(monkeypatch: pytest.MonkeyPatch,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    lines = command_lines()
    assert {"demo", "prune", "eval", "inspect", "doctor"} <= {command for command, *_ in lines}
    commands = help_text([], monkeypatch, capsys)
    for command, *options in lines:
        assert re.search(rf"\b{command}\b", commands), command
        text = help_text([command], monkeypatch, capsys) if options else ""
        assert [option for option in options if not re.search(rf"{option}\b", text)] == [], command


@BY_PAGE
def test_every_public_name_that_is_used_exists(page: str) -> None:
    assert [name for name in re.findall(r"\bopf\.(\w+)", PAGES[page]) if not hasattr(opf, name)] == []


def test_the_design_lists_the_public_names() -> None:
    section = PAGES["docs/DESIGN.md"].partition("## 4. Public API")[2].partition("## 5.")[0]
    assert [name for name in opf.__all__ if name != "__version__" and not re.search(rf"\b{name}\b", section)] == []


def test_the_readme_knows_the_variables_that_the_doctor_knows() -> None:
    assert set(re.findall(r"`(OPTPRUNE_\w+)`", PAGES["README.md"])) == set(doctor._VARIABLES)


# ---- words

HYPE = ("blazing", "cutting-edge", "state-of-the-art", "seamless", "effortless", "revolution", "game-chang", "unleash",
        "powerful", "world-class", "next-generation", "supercharge")


@BY_PAGE
def test_pages_are_sober_and_belong_to_no_machine(page: str) -> None:
    text = PAGES[page]
    assert [word for word in HYPE if word in text.lower()] == []
    assert re.findall(r"(?<![\w.>])/(?:home|root|tmp|mnt|opt|srv|var)/\S*", text) == []
    assert re.findall(r"\bTODO\b|\bFIXME\b|\bXXX\b", text) == []


def test_constraints_are_exact_pins_from_no_particular_place() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert "torch==2.13.0" in lines
    assert [line for line in lines if not re.fullmatch(r"[\w-]+==[\d.]+(; \w+ \S+ '[\w.]+')?", line)] == []
