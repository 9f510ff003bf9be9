"""Units of measurement: which are known, how they are spelt, and what a column's name says of its own."""

import difflib
import re

from graphssl.errors import SchemaError


def read_unit(text: str) -> str:
    """A unit in one spelling: `mg/dl` is `mg/dL`, `yrs` is `years`, `μmol/L` is `umol/L`.

    Known are SI units with prefixes, those of clinical chemistry (`mEq`, `IU`, `U`, counts such as `10^9/L`), of time and of the bedside (`mmHg`,
    `bpm`), and products and quotients of them.

    Raises:
        SchemaError: If the unit is not known; names the nearest one.
    """
    plain = text.strip().replace("µ", "u").replace("μ", "u")
    word = _WORDS.get(plain.casefold())
    if word is not None:
        return word
    parts = [_WORDS.get(part.strip().casefold(), part.strip()) for part in re.split(r"([/*·])", plain)]
    if any(part not in ("/", "*", "·") and part not in _WORDS.values() and not _PART.fullmatch(part) for part in parts):
        near = difflib.get_close_matches(plain.casefold(), [*_WORDS, "mg/dl", "mmol/l", "g/dl", "kg/m2"], n=1)
        perhaps = f"; perhaps {_WORDS.get(near[0], near[0])}" if near else ""
        raise SchemaError(f"Expected a unit such as mg/dL, mmHg or years, found {text!r}{perhaps}. Correct it, or leave the unit out.")
    return "".join(re.sub(r"(?<![A-Za-z])([dcmunpf]?)l(?![A-Za-z])", r"\1L", part) for part in parts)


def unit_in_name(name: str) -> str | None:
    """The unit that a column's name carries: `glucose (mg/dL)`, `weight [kg]`, `age_years`; None where it carries none."""
    found = re.search(r"[(\[]([^()\[\]]+)[)\]]\s*$", name)
    if found:
        try:
            return read_unit(found[1])
        except SchemaError:
            return None  # a remark, such as (total)
    ending = re.search(
        r"[_. ](years|yrs|months|weeks|days|hours|hrs|kg|cm|mm|mmhg|bpm|pct|percent|mg_?dl|g_?dl|mmol_?l|umol_?l)$", name, re.IGNORECASE
    )
    if ending is None:
        return None
    return read_unit(re.sub(r"_?(d?l)$", r"/\1", ending[1].lower()) if ending[1].lower().endswith("l") else ending[1])


# Spelling by what people write, in lower case.
_WORDS = {
    **dict.fromkeys(("y", "yr", "yrs", "year", "years"), "years"),
    **dict.fromkeys(("month", "months", "mo"), "months"),
    **dict.fromkeys(("week", "weeks", "wk"), "weeks"),
    **dict.fromkeys(("day", "days"), "days"),
    **dict.fromkeys(("hour", "hours", "hr", "hrs", "h"), "hours"),
    **dict.fromkeys(("minute", "minutes"), "minutes"),
    **dict.fromkeys(("second", "seconds", "sec"), "seconds"),
    **dict.fromkeys(("mmhg", "mm hg"), "mmHg"),
    **dict.fromkeys(("cmh2o", "cm h2o"), "cmH2O"),
    **dict.fromkeys(("%", "pct", "percent"), "%"),
    **dict.fromkeys(("°c", "degc", "deg c", "celsius"), "degC"),
    **dict.fromkeys(("°f", "degf", "deg f", "fahrenheit"), "degF"),
    **dict.fromkeys(("bpm", "beats/min", "beats per minute"), "bpm"),
    **dict.fromkeys(("breaths/min", "insp/min"), "breaths/min"),
    **dict.fromkeys(("point", "points", "score"), "points"),
    **dict.fromkeys(("count", "counts", "cells", "cell"), "count"),
    **dict.fromkeys(("ratio", "fraction", "1"), "ratio"),
    **dict.fromkeys(("unit", "units"), "units"),
    **dict.fromkeys(("lb", "lbs", "pound", "pounds"), "lb"),
    **dict.fromkeys(("in", "inch", "inches"), "in"),
}
# A factor such as 10^9, 10*3 or 1.73, a prefix, a unit and an exponent: at least the factor or the unit.
_UNIT = "(?:da|[kKMGdcmunpf])?(?:g|[lL]|mol|m|s|min|d|Hz|Pa|[eE]q|[oO]sm|IU|U|K|W|J|V|cal|kat|N)(?:\\^?-?[1-4]|[²³])?"
_PART = re.compile(rf"(?:[xX×]?10[\^*eE]?\d+|\d+(?:\.\d+)?)\s*(?:{_UNIT})?|{_UNIT}")
