"""An argument parser whose errors are sentences, and what is made of what it parsed: objects, and a configuration as it was resolved."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser, Namespace

from graphssl.errors import ConfigError, InputError

_PREFIX = "Expected a configuration that fits, found: "
_UNKNOWN = (
    re.compile(r"(?:Key|Option|key) ?'?-*([\w.]+)'? is not (?:accepted|expected)"),
    re.compile(r"does not accept option '([\w.]+)'"),
    re.compile(r"[Uu]nrecognized arguments: -*([\w.]+)"),
)
_LACKING = re.compile(r"the following arguments are required: (.*)")
# What jsonargparse says where a class or nothing is expected; the first reason is the one that helps.
_UNION = re.compile(r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: - (.*?) - Expected a <class 'NoneType'>.*")


class Parser(ArgumentParser):
    """An argument parser that raises `ConfigError` with the nearest known key instead of printing usage.

    Attributes:
        more_keys: Keys below its options, such as arguments of the classes that a configuration may name.
    """

    more_keys: Sequence[str] = ()

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Namespace:  # type: ignore[override]
        """Parse, with a line of usage that has what must be given: the options are listed below it, each with what it is for.

        Args:
            args: Words of the command line; those of the process when left out.
            more: What jsonargparse takes besides.
            named: Likewise, by name.
        """
        self.usage = self.usage or f"{self.prog} {' '.join(self._short_usage())}"  # while parsing, jsonargparse calls nothing required
        return super().parse_args(args, *more, **named)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn a parsing error into one sentence.

        Raises:
            ConfigError: Always.
        """
        text = reason(str(ex or message))
        found = next((match for pattern in _UNKNOWN if (match := pattern.search(text))), None)
        if found and "Did you mean" not in text:
            keys = {part for action in self._actions for part in str(action.dest).split(".")} | set(self.more_keys)
            wrong = next((part for part in found.group(1).split(".") if part not in keys), "")
            text = f"{text}.{nearest(wrong, sorted(keys))}"
        if lacking := _LACKING.search(text):
            raise ConfigError(self._lacking(lacking.group(1).split(", ")))
        raise ConfigError(f"{_PREFIX}{text}")

    def _lacking(self, names: Sequence[str]) -> str:
        if "--config" in self._option_string_actions:
            return f"Expected a configuration that has {' and '.join(names)}, found none. Give it with --config FILE; see {self.prog} --help."
        words = [f"--{name}" if f"--{name}" in self._option_string_actions else name.upper() for name in names]
        return f"Expected {' and '.join(words)}, found {'none of them' if words[1:] else 'none'}. See {self.prog} --help."

    def _short_usage(self) -> Iterator[str]:
        yield "[options]"
        if "--config" in self._option_string_actions:  # what else must be given stands in the file
            yield "--config FILE"
            return
        for action in self._actions:
            if action.option_strings and action.required:
                yield f"{action.option_strings[0]} {action.dest.upper()}"
            elif not action.option_strings:
                yield f"[{action.dest.upper()}]" if action.nargs == "?" else action.dest.upper()


def instantiated(parser: ArgumentParser, parsed: Namespace) -> Namespace:
    """The objects of a parsed configuration.

    Raises:
        ConfigError: If a class refuses its arguments.
        InputError: Any other that a constructor raises.
    """
    try:
        return parser.instantiate(parsed)
    except InputError:
        raise
    except (TypeError, ValueError) as error:  # jsonargparse wraps what a constructor says
        raise ConfigError(reason(str(error))) from error


def resolved(settings: Mapping[str, Any]) -> str:
    """A configuration as YAML of plain values, from which the same one is read."""
    return yaml.safe_dump(json.loads(json.dumps(settings, default=str)), sort_keys=False)


def reason(message: str) -> str:
    """The part of a message of jsonargparse that helps, in one line."""
    text = _UNION.sub(r"\1", " ".join(message.split()))
    return text.replace(_PREFIX, "")


def nearest(word: str, known: Sequence[str]) -> str:
    """`" Did you mean …?"` with the nearest known word, or nothing where none is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
