"""Write search/COMMANDS.md, the reference of all commands, from the commands themselves.

    python -m tests.reference

`tests/test_documents.py` fails while the file differs from what this writes.
"""

from collections.abc import Iterator
from pathlib import Path

import click

from huetune.search.cli.main import cli

FILE = Path(__file__).parents[1] / "search" / "COMMANDS.md"
WIDTH_COLUMNS = 100
"""Width of the help texts, independent of the terminal."""
INTRODUCTION = """# Commands

Generated from the commands by `python -m tests.reference`; do not edit. `huetune COMMAND --help` prints the same texts.
"""


def commands(command: click.Command = cli, path: tuple[str, ...] = ("huetune",)) -> Iterator[tuple[str, str]]:
    """Yield the full name and the help of a command and of its subcommands, sorted by name."""
    context = click.Context(command, info_name=" ".join(path), terminal_width=WIDTH_COLUMNS, **cli.context_settings)
    yield " ".join(path), command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from commands(command.commands[name], (*path, name))


def reference() -> str:
    """Return the reference as Markdown: a section for each command with its help text."""
    found = list(commands())
    index = [f"- [{name}](#{name.replace(' ', '-')})" for name, _ in found]
    sections = [f"## {name}\n\n```text\n{text}\n```" for name, text in found]
    return "\n".join([INTRODUCTION, *index, "", "\n\n".join(sections), ""])


if __name__ == "__main__":
    FILE.write_text(reference(), encoding="utf-8")
