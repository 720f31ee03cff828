"""README and docs name only what exists: commands, options, files, pages, tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from invoke.program import Program

from ops.tasks import namespace

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
ROWS = [
    f"{group}{number}"
    for group, last in (("S", 9), ("D", 15), ("B", 16), ("K", 5), ("H", 9))
    for number in range(1, last + 1)
]
PROMISES = range(1, 13)
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


pages = pytest.mark.parametrize("page", PAGES, ids=name_of)


def code(page: Path) -> Iterator[str]:
    """Yield the lines of code blocks, and each piece of code in a sentence."""
    fenced = False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or re.match(r" {4,}\S", line):
            yield line.strip()
        else:
            yield from re.findall(r"`([^`]+)`", line)


def commands(page: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield the task (empty for none) and the options of each call of inv or opsbook."""
    for text in code(page):
        for call in re.findall(r"(?:^|[\s/(:])(?:inv|opsbook) (?=[a-z-])([^|;]*?)(?=\||;|  +#|$)", text):
            first, _, rest = call.partition(" ")
            yield (
                ("", set(FLAG.findall(call)))
                if first.startswith("-")
                else (first.rstrip(".,:"), set(FLAG.findall(rest)))
            )


def options() -> dict[str, set[str]]:
    """Return the options of each task under all its names; under the empty name, those of inv itself."""
    found = {
        "": {
            f"--{name}"
            for argument in Program().core_args() + Program().task_args()
            for name in argument.names
        }
    }
    for main, others in namespace.task_names.items():
        flags = {
            flag.replace("_", "-")
            for argument in namespace[main].get_arguments()
            for flag in spelled(argument)
        }
        found |= dict.fromkeys((main, *others), flags)
    return found


def spelled(argument: object) -> Iterator[str]:
    """Yield the flags of an argument; one that is on by default has a --no- form."""
    for name in getattr(argument, "names", ()):
        yield f"--{name}"
        yield f"--no-{name}"


@pages
def test_commands_and_their_options_exist(page: Path) -> None:
    """Every call of inv or opsbook names a task that is there, and options that it takes."""
    known = options()
    wrong = [
        f"{task or 'inv'} {' '.join(sorted(flags - known.get(task, set()) - {'--help'}))}"
        for task, flags in commands(page)
        if task not in known or flags - known[task] - {"--help"}
    ]
    assert not wrong


@pages
def test_options_named_alone_exist(page: Path) -> None:
    """An option that stands alone in a sentence belongs to some task or script."""
    known = set().union(*options().values(), *(script_options(path) for path in (ROOT / "scripts").iterdir()))
    alone = {text.split()[0] for text in code(page) if text.startswith("--")}
    assert alone <= known


@pages
def test_tasks_named_alone_exist(page: Path) -> None:
    """A task that stands in a sentence without `inv` before it is there; config.md speaks of keys, not of tasks."""
    collection = "|".join(namespace.collections)
    alone = {text for text in code(page) if re.fullmatch(rf"({collection})\.[a-z_]+", text)}
    assert page.name == "config.md" or alone <= options().keys()


def script_options(path: Path) -> set[str]:
    return set(FLAG.findall(path.read_text(encoding="utf-8"))) if path.is_file() else set()


@pages
def test_scripts_and_their_options_exist(page: Path) -> None:
    """Every script that is called is there, and knows its options."""
    for text in code(page):
        for name, rest in re.findall(r"(?:^|\s)(?:\./)?scripts/(\w+)([^|;#]*)", text):
            assert (ROOT / "scripts" / name).is_file()
            assert set(FLAG.findall(rest.partition(" -- ")[0])) <= script_options(ROOT / "scripts" / name)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a page or file of the repository resolves."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    broken = [
        target
        for target in targets
        if target and "://" not in target and not (page.parent / target).resolve().exists()
    ]
    assert not broken


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    """Paths of the repository that stand in a sentence exist."""
    named = {
        text
        for text in code(page)
        if re.fullmatch(r"(ops|docs|tests|scripts|compose|\.github)/[\w./-]+", text) and "<" not in text
    }
    assert not [path for path in named if not (ROOT / path).exists()]


def parity_rows() -> dict[str, list[str]]:
    """Return the cells of each row of docs/parity.md."""
    rows = {}
    for line in (ROOT / "docs" / "parity.md").read_text(encoding="utf-8").splitlines():
        if re.match(r"\| [SDBKH]\d+ \|", line):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            rows[cells[0]] = cells[1:]
    return rows


def test_parity_has_every_row_once() -> None:
    """No row of the five systems is left out."""
    assert list(parity_rows()) == ROWS


@pytest.mark.parametrize("row", ROWS)
def test_delivered_rows_name_tests_that_prove_them(row: str) -> None:
    """A delivered row names test files that bear its marker, or a test in them; one that says "not yet" names none."""
    cells = parity_rows()[row]
    files = re.findall(r"\]\(\.\./(tests/[\w./]+)\)", cells[-1])
    if cells[1].startswith("not yet"):
        assert not files
        return
    assert files
    named = re.findall(r"`(test_\w+)`", cells[-1])
    for file in files:
        assert (ROOT / file).is_file()
        text = (ROOT / file).read_text(encoding="utf-8")
        assert marks("parity", f'"{row}"', ROOT / file) or any(f"def {test}(" in text for test in named)


@pytest.mark.parametrize("number", PROMISES)
def test_promises_are_proven_on_the_sandbox(number: int) -> None:
    """Every promise names test files, and each of them has a test with its marker."""
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    promises = dict(re.findall(r"^\*\*(\d+)\. (.*?)(?=^\*\*|^## )", page, re.MULTILINE | re.DOTALL))
    assert list(promises) == [str(each) for each in PROMISES]
    files = re.findall(r"\]\(\.\./(tests/sandbox/\w+\.py)\)", promises[str(number)])
    assert files
    assert all(marks("holds", str(number), ROOT / file) for file in files)


def marks(marker: str, argument: str, file: Path) -> bool:
    """Return whether a test file uses a marker with this argument."""
    return bool(
        file.is_file()
        and re.search(rf"mark\.{marker}\({re.escape(argument)}[,)]", file.read_text(encoding="utf-8"))
    )
