"""The documents cite existing files, modules and options, and the commands accept what the documents tell to type."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from huetune.search.cli.main import cli
from tests.interpreter import output_of
from tests.reference import FILE

ROOT = Path(__file__).parents[1]
PACKAGES = ("data_tools", "model", "results", "search")
FOLDERS = (*PACKAGES, "tests")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md"))])
WRITTEN = [path for path in DOCUMENTS if path != FILE]
MAX_FRONT_LINES = 120
OPTIONS_OF_OTHER_PROGRAMS = {
    "--object-store-memory",  # `ray start`
    "--temp-dir",  # `ray start`
    "--summary",  # `python -m tests.benchmarks`
    "--retrain",  # `python -m tests.benchmarks`
    "--sets",  # `python -m tests.benchmarks`
}

every_document = pytest.mark.parametrize("document", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())


def _prose(document: Path) -> str:
    """Return the text without code blocks."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def _spans(document: Path) -> list[str]:
    """Return the texts between backticks in the prose, each joined to one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", _prose(document))]


def _block_lines(document: Path) -> list[str]:
    """Return the lines of all indented code blocks, without comments."""
    lines = re.findall(r"^    (\S.*)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [re.sub(r"(^|\s)#.*", "", line).strip() for line in lines]


def _anchors(document: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _options(command: click.Command = cli) -> Iterator[str]:
    for parameter in command.params:
        yield from parameter.opts
    for inner in command.commands.values() if isinstance(command, click.Group) else ():
        yield from _options(inner)


def _parse(words: list[str]) -> None:
    """Parse the arguments of a command line, without running the command."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]
    if not words and isinstance(command, click.Group):
        return
    try:
        command.make_context(command.name, words)
    except click.exceptions.Exit as end:  # --help, --version
        assert not end.exit_code


def test_front_page_is_short():
    """A new user should be able to read all of it."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_FRONT_LINES


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_has_readme_that_front_page_links(name):
    assert (ROOT / name / "README.md").is_file()
    assert f"({name}/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_reference_is_what_is_generated():
    """`python -m tests.reference` writes it. It is generated in a new process, because click caches help texts."""
    code = "from tests.reference import reference; print(reference(), end='')"
    assert FILE.read_text(encoding="utf-8") == output_of("-c", code, folder=ROOT)


@every_document
def test_links_lead_to_files_and_headings(document):
    for target in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), target
        assert not anchor or anchor in _anchors(file), target


@every_document
def test_cited_files_and_modules_exist(document):
    text = document.read_text(encoding="utf-8")
    for path in re.findall(rf"(?<![\w/.-])(?:(?:{'|'.join(FOLDERS)}|\.ci|\.github)/[\w./-]*\w)", text):
        assert (ROOT / path).exists(), path
    for name in re.findall(rf"\bhuetune\.((?:{'|'.join(PACKAGES)})(?:\.\w+)*)|python -m (tests[\w.]*)", text):
        place = ROOT / next(filter(None, name)).replace(".", "/")
        assert place.is_dir() or place.with_suffix(".py").is_file(), name


@every_document
def test_commands_in_blocks_can_be_typed(document):
    for line in _block_lines(document):
        if command := re.match(r"(?:\.venv/bin/)?huetune (.+)", line):
            _parse(shlex.split(command[1]))


@every_document
def test_commands_in_sentences_exist(document):
    """A sentence may name a command with or without its arguments."""
    for span in _spans(document):
        if span.startswith("huetune ") and "COMMAND" not in span:
            words = shlex.split(span)[1:]
            try:
                _parse(words)
            except click.MissingParameter:
                assert not any(word.startswith("-") for word in words), span


@every_document
def test_options_in_sentences_exist(document):
    known = {*_options(), *OPTIONS_OF_OTHER_PROGRAMS, "--help", "--version"}
    for span in _spans(document):
        for option in re.findall(r"^--[a-z-]+", span):
            assert option in known, span


@every_document
def test_make_targets_exist(document):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in (*_spans(document), *_block_lines(document)):
        if target := re.match(r"make ([a-z-]+)", line):
            assert target[1] in targets, line


def test_workflow_runs_ci_script_with_oldest_python():
    """It runs on each push and pull request, with the oldest supported Python."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    # YAML reads the key `on` as true.
    assert set(workflow[True]) == {"push", "pull_request"}
    (job,) = workflow["jobs"].values()
    python = next(step["with"]["python-version"] for step in job["steps"] if "setup-python" in step.get("uses", ""))
    assert f'requires-python = ">={python}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert job["steps"][-1]["run"] == "bash .ci/run" and (ROOT / ".ci" / "run").is_file()
