"""Completion of verbs, options, choices and files in shells. The scripts are made by shtab and stand alone: completing never starts Python."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, get_args

import shtab
from jsonargparse import capture_parser

Shell = Literal["bash", "zsh", "fish"]
Verb = Callable[[Sequence[str]], None]
SHELLS: tuple[Shell, ...] = get_args(Shell)
# Words of options that name files or folders.
_OF_PLACES = {
    "path",
    "cohort",
    "run",
    "out",
    "config",
    "atlas",
    "participants",
    "schema",
    "schema_out",
    "model",
    "map",
    "save_map",
    "masks",
    "output",
}
_OF_PLACES |= {"apply", "fit", "fit_subjects", "from", "to"}


def completion_script(
    verbs: Mapping[str, tuple[Verb, str]],
    shell: Shell,
    others: Mapping[str, Verb] = MappingProxyType({}),
) -> str:
    """The script that a shell reads to complete `graphssl`.

    Args:
        verbs: Function and description of each verb by name, as the command line has them; each makes its parser before it does anything else.
        shell: The shell.
        others: By name of a verb, what it turns into where a configuration asks for it; options of both are completed.
    """
    root = argparse.ArgumentParser(prog="graphssl", description="Pre-training for clinical graphs and tables")
    below = root.add_subparsers()
    for name, (verb, what) in verbs.items():
        target = below.add_parser(name, help=what, description=what)
        for each in (verb, *([others[name]] if name in others else [])):
            _copy(capture_parser(each, []), target)
    return shtab.complete(root, shell=shell)


def _copy(source: argparse.ArgumentParser, target: argparse.ArgumentParser) -> None:
    """Names, help and choices of options, without what makes jsonargparse of them."""
    for action in source._actions:
        words = [word for word in action.option_strings if word not in target._option_string_actions]
        if action.option_strings and not words:
            continue
        told = _first_sentence(action.help)
        if words and action.nargs == 0:
            target.add_argument(*words, action="store_true", help=told)
            continue
        names = words or [action.dest]
        choices = _choices(action)
        copied = target.add_argument(*names, help=told, choices=choices, **({} if words else {"nargs": "?"}))  # type: ignore[arg-type]
        if choices is None and action.dest.rpartition(".")[2] in _OF_PLACES:
            copied.complete = shtab.FILE  # type: ignore[attr-defined]


def _choices(action: argparse.Action) -> list[str] | None:
    """Words that an option takes, where it takes no others: those of a `Literal`, perhaps optional, or true and false."""
    kinds = getattr(action, "_typehint", None)
    parts = [part for part in (get_args(kinds) if get_args(kinds) and not _is_literal(kinds) else (kinds,)) if part is not type(None)]
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    if parts == [bool]:
        return ["true", "false"]
    return [str(word) for part in parts for word in get_args(part)] if parts and all(map(_is_literal, parts)) else None


def _is_literal(kind: object) -> bool:
    return getattr(kind, "__origin__", None) is Literal


def _first_sentence(text: str | None) -> str:
    """The first sentence of a help, which is all a list of completions has room for."""
    told = "" if text in (None, argparse.SUPPRESS) else " ".join(str(text).split())
    return told.partition(". ")[0].removesuffix(".").replace("%", "%%")
