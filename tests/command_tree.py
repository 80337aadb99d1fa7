"""The commands of both programs as a person meets them: the tree of typer, and the examples that each help begins with."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import typer

from hub_server import cli as hub_cli
from hwc_node import cli as node_cli

PROGRAMS: Final[dict[str, typer.Typer]] = {"hwc": node_cli.app, "hub": hub_cli.app}
EXAMPLES: Final = "\b\nExamples:\n"
_ASSIGNMENT: Final = re.compile(r"[A-Z][A-Z0-9_]*=.*")
_PIPES: Final = frozenset({"|", "||", "&&", ";"})
_REDIRECTIONS: Final = frozenset({"<", ">", ">>"})


@dataclass(frozen=True, slots=True)
class Command:
    """One command, or a group of them. words: how it is called, the program first."""

    words: tuple[str, ...]
    parser: Any  # of the click that typer carries inside, which has no public name

    @property
    def name(self) -> str:
        return " ".join(self.words)

    @property
    def help(self) -> str:
        return str(self.parser.help or "")

    @property
    def is_group(self) -> bool:
        return hasattr(self.parser, "commands")

    @property
    def works_alone(self) -> bool:
        """Whether it does something without another word behind it."""
        return not self.is_group or bool(self.parser.invoke_without_command)

    @property
    def options(self) -> frozenset[str]:
        return frozenset(option for parameter in self.parser.params for option in parameter.opts)

    def example_lines(self) -> list[str]:
        """The lines behind "Examples:", as they stand in the help."""
        before, found, rest = self.help.partition(EXAMPLES)
        return [line.strip() for line in rest.partition("\n\n")[0].splitlines()] if found and not before else []

    def accept(self, arguments: list[str]) -> None:
        """Parse the words behind the command's own, and run nothing. Raises typer's error of wrong usage."""
        self.parser.make_context(self.name, list(arguments))


@cache
def program(name: str) -> Command:
    """Raises KeyError for no program of ours."""
    return Command((name,), typer.main.get_command(PROGRAMS[name]))


def commands() -> Iterator[Command]:
    """Every command and group, groups before what is in them."""
    for name in PROGRAMS:
        yield from _below(program(name))


def find(words: list[str]) -> tuple[Command, list[str]]:
    """The command that a line of words calls, and what is left for it. Raises KeyError for no program of ours."""
    found, rest = program(words[0]), words[1:]
    while found.is_group and rest and rest[0] in found.parser.commands:
        found = Command((*found.words, rest[0]), found.parser.commands[rest[0]])
        rest = rest[1:]
    return found, rest


def _below(command: Command) -> Iterator[Command]:
    yield command
    if command.is_group:
        for name, parser in command.parser.commands.items():
            yield from _below(Command((*command.words, name), parser))


def called(line: str) -> list[list[str]]:
    """The words of each program that a shell's line calls: without assignments, files and what the line explains."""
    lexer = shlex.shlex(re.split(r"\s{3,}", line)[0], posix=True, punctuation_chars="|<>;&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    every: list[list[str]] = [[]]
    tokens = list(lexer)
    for before, token, after in zip(["", *tokens], tokens, [*tokens[1:], ""], strict=False):
        if token in _PIPES:
            every.append([])
        elif token in _REDIRECTIONS or before in _REDIRECTIONS or (token.isdigit() and after in _REDIRECTIONS):
            continue
        elif every[-1] or not _ASSIGNMENT.fullmatch(token):
            every[-1].append(token)
    return every
