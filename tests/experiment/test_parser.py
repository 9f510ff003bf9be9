"""Errors of parsing are one sentence, with the nearest known key."""

from datetime import time
from pathlib import Path

import pytest

from graphssl.encoders import AbstractEncoder
from graphssl.errors import ConfigError, DataError
from graphssl.experiment.parser import Parser, instantiated, nearest, reason, resolved


@pytest.fixture
def parser():
    made = Parser(allow_abbrev=False)
    made.add_argument("--seeds", type=int, default=0)
    made.add_argument("--encoder", type=AbstractEncoder | None, default=None)
    return made


def test_what_fits_is_parsed(parser):
    assert parser.parse_args(["--seeds", "3"]).seeds == 3


@pytest.mark.parametrize("words", [["--seed", "3"], ["--seeeds=3"], ["--seedz", "3", "--quiet"]])
def test_an_unknown_option_names_the_nearest(parser, words):
    with pytest.raises(ConfigError, match=r"configuration that fits, found: .*\. Did you mean 'seeds'\?$"):
        parser.parse_args(words)


def test_an_option_like_no_other_has_no_hint(parser):
    with pytest.raises(ConfigError, match="--zzz") as caught:
        parser.parse_args(["--zzz", "3"])
    assert "Did you mean" not in str(caught.value)


def test_what_must_be_given_stands_in_usage_and_error():
    made = Parser(prog="graphssl embed")
    made.add_argument("run", type=str)
    made.add_argument("other", type=str | None, nargs="?")
    for name in ("--out", "--more"):
        made.add_argument(name, type=str, required=name == "--out")
    with pytest.raises(ConfigError, match=r"^Expected RUN and --out, found none of them\. See graphssl embed --help\.$"):
        made.parse_args([])
    with pytest.raises(ConfigError, match=r"^Expected --out, found none\."):
        made.parse_args(["here"])
    assert made.usage == "graphssl embed [options] RUN [OTHER] --out OUT"


def test_what_a_configuration_lacks_is_asked_for_with_a_configuration():
    made = Parser(prog="graphssl pretrain")
    made.add_argument("--config", action="config")
    made.add_argument("--name", type=str, required=True)
    with pytest.raises(ConfigError, match=r"^Expected a configuration that has name, found none\. Give it with --config FILE; see graphssl pretrain"):
        made.parse_args([])
    assert made.usage == "graphssl pretrain [options] --config FILE"


def test_a_value_of_another_type(parser):
    with pytest.raises(ConfigError, match=r"\"seeds\": Expected a <class 'int'>\. Got value: many"):
        parser.parse_args(["--seeds", "many"])


def test_a_class_or_nothing_says_what_is_wrong_with_the_class(parser):
    """jsonargparse lists every type it tried; the reason that helps is the first."""
    with pytest.raises(ConfigError, match=r"^Expected a configuration that fits, found: .*Option 'widht' is not accepted\. Did you mean 'width'\?$"):
        parser.parse_args(["--encoder", "graphssl.encoders.GraphTransformer", "--encoder.widht", "8"])


def test_keys_below_an_option_are_hinted_at(parser):
    parser.more_keys = ["max_epochs"]
    with pytest.raises(ConfigError, match="Did you mean 'max_epochs'"):
        parser.parse_args(["--max_epoch", "3"])


def test_messages_are_one_line(parser):
    for words in (["--encoder", "3"], ["--seeds", "[1,\n2]"], ["--what\nelse"]):
        with pytest.raises(ConfigError) as caught:
            parser.parse_args(words)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("word", "hint"), [("adapter", " Did you mean 'adapter'?"), ("adaptor", " Did you mean 'adapter'?"), ("zzz", ""), ("", "")])
def test_nearest(word, hint):
    assert nearest(word, ["adapter", "arguments"]) == hint


def test_reason_without_a_union_is_the_message_in_one_line():
    assert reason("first\n   second  third\n") == "first second third"


class Meeting:
    def __init__(self, hour: int = 12) -> None:
        if hour < 0:
            raise DataError("Expected a day with hours, found none.")
        self.when = time(hour)


@pytest.fixture
def meeting(parser):
    parser.add_class_arguments(Meeting, "meeting")
    return lambda hour: instantiated(parser, parser.parse_args([f"--meeting.hour={hour}"])).meeting


def test_objects_of_a_parsed_configuration(meeting):
    assert meeting(9).when == time(9)


def test_what_a_constructor_refuses_is_an_error_of_the_configuration(meeting):
    with pytest.raises(ConfigError, match=r"hour must be in 0\.\.23"):
        meeting(25)
    with pytest.raises(DataError, match="Expected a day with hours"):
        meeting(-1)


def test_a_resolved_configuration_keeps_its_order_and_holds_plain_values():
    assert resolved({"name": "study", "folder": Path("runs"), "seeds": (1, 2)}) == "name: study\nfolder: runs\nseeds:\n- 1\n- 2\n"
