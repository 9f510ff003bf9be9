"""Units of measurement: which are known, how they are spelt, what a column's name says of its own, and how one becomes another."""

import difflib
import re
from collections import Counter

from graphssl.errors import SchemaError


def read_unit(text: str) -> str:
    """A unit in one spelling: `mg/dl` is `mg/dL`, `yrs` is `years`, `μmol/L` is `umol/L`.

    Known are SI units with prefixes, those of clinical chemistry (`mEq`, `IU`, `U`, counts such as `10^9/L`), of time and of the bedside (`mmHg`,
    `bpm`), and products and quotients of them.

    Raises:
        SchemaError: If the unit is not known, or a power of ten has lost its sign (`109/L`); names the nearest one.
    """
    plain = text.strip().replace("µ", "u").replace("μ", "u")
    flat = re.fullmatch(r"10(3|6|9|12)\s*/\s*(\w+)", plain)
    if flat is not None:
        raise SchemaError(f"Expected a power of ten such as 10^9/L, found {text!r}; perhaps 10^{flat[1]}/{flat[2]}. Correct it.")
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


def conversion(given: str, wanted: str) -> tuple[float, float]:
    """Factor and offset that turn values of one unit into another: `wanted = factor * given + offset`.

    Mass never becomes amount (`mg/dL` to `mmol/L`), for that depends on the substance; nor do `U`, `IU` and `units` become one another.

    Raises:
        SchemaError: If a unit is not known, or the two measure different things.
    """
    given, wanted = read_unit(given), read_unit(wanted)
    if (given, wanted) in _TEMPERATURES:
        return _TEMPERATURES[given, wanted]
    (factor, measured), (wanted_factor, wanted_measured) = _in_base_units(given), _in_base_units(wanted)
    if measured != wanted_measured:
        raise SchemaError(f"Expected a unit that can be converted to {wanted}, found {given}. Convert the values, or correct the unit.")
    return factor / wanted_factor, 0.0


def _in_base_units(unit: str) -> tuple[float, dict[str, int]]:
    """How many base units a unit is, and the power of each."""
    total, powers, sign = 1.0, Counter[str](), 1
    for part in [unit] if unit in _BASE else re.split(r"([/*·])", re.sub(r"10\*(\d)", r"10^\1", unit)):
        if part in ("/", "*", "·"):
            sign = -1 if part == "/" else 1
            continue
        factor, base, power = _part(part)
        total *= factor**sign
        powers[base] += sign * power
    return total, {base: power for base, power in powers.items() if base and power}


def _part(part: str) -> tuple[float, str, int]:
    """A factor, a prefix, a unit and an exponent: how many base units they are, which, and its power."""
    if part in _BASE:
        return _BASE[part]
    ten_to, number, word, exponent, raised = _SPLIT.fullmatch(part).groups()  # type: ignore[union-attr]  # read_unit let it pass
    times = 10.0 ** int(ten_to) if ten_to else float(number or 1)
    if not word:
        return times, "count", 1  # what is counted in 10^9/L are cells
    prefix = "" if word in _BASE else "da" if word.startswith("da") else word[0]
    factor, base, power = _BASE[word.removeprefix(prefix)]
    times_over = int(exponent or {"²": 2, "³": 3}.get(raised, 1))
    return times * (_PREFIXES.get(prefix, 1.0) * factor) ** times_over, base, power * times_over


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
_SPLIT = re.compile(r"(?:(?:[xX×]?10[\^eE]|[xX×]10)(\d+)|(\d+(?:\.\d+)?))?\s*([A-Za-z]*)(?:\^?(-?[1-4])|([²³]))?")
_PREFIXES = {"da": 10.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "d": 0.1, "c": 0.01, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
_DAY = 86400.0
# What a unit is: how many base units, which (none for a bare number), and its power.
_BASE: dict[str, tuple[float, str, int]] = {
    **{
        unit: (1.0, unit, 1)
        for unit in ("g", "m", "s", "mol", "Pa", "J", "W", "V", "N", "kat", "Eq", "Osm", "IU", "U", "degC", "degF", "points", "units", "count")
    },
    "eq": (1.0, "Eq", 1),
    "osm": (1.0, "Osm", 1),
    "Hz": (1.0, "s", -1),
    "cal": (4.184, "J", 1),
    "%": (0.01, "", 0),
    "ratio": (1.0, "", 0),
    "L": (1e-3, "m", 3),
    "l": (1e-3, "m", 3),
    "in": (0.0254, "m", 1),
    "lb": (453.59237, "g", 1),
    "mmHg": (133.322387415, "Pa", 1),
    "cmH2O": (98.0665, "Pa", 1),
    "seconds": (1.0, "s", 1),
    "min": (60.0, "s", 1),
    "minutes": (60.0, "s", 1),
    "hours": (3600.0, "s", 1),
    "d": (_DAY, "s", 1),
    "days": (_DAY, "s", 1),
    "weeks": (7 * _DAY, "s", 1),
    "months": (365.25 / 12 * _DAY, "s", 1),
    "years": (365.25 * _DAY, "s", 1),
    "bpm": (1.0, "beats a minute", 1),
    "breaths/min": (1.0, "breaths a minute", 1),
    "K": (1e3, "count", 1),  # K/uL: thousands
}
_TEMPERATURES = {("degC", "degF"): (1.8, 32.0), ("degF", "degC"): (1 / 1.8, -32 / 1.8)}
