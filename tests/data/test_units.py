"""Units: one spelling of each, those unknown are refused, and names of columns tell theirs."""

import re

import pytest

from graphssl.data.units import _WORDS, conversion, read_unit, unit_in_name
from graphssl.errors import SchemaError


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("mg/dl", "mg/dL"),
        ("mg/dL", "mg/dL"),
        (" µmol/l ", "umol/L"),
        ("10^9/L", "10^9/L"),
        ("x10E3/uL", "x10E3/uL"),
        ("cells/uL", "count/uL"),
        ("mL/min/1.73m2", "mL/min/1.73m2"),
        ("kg/m^2", "kg/m^2"),
        ("mEq/L", "mEq/L"),
        ("ng/mL/hr", "ng/mL/hours"),
        ("mm Hg", "mmHg"),
        ("Yrs", "years"),
        ("beats/min", "bpm"),
        ("%", "%"),
        ("°C", "degC"),
        ("K/uL", "K/uL"),
    ],
)
def test_spellings(text, unit):
    assert read_unit(text) == unit
    assert read_unit(unit) == unit, "read twice it stays"


@pytest.mark.parametrize(
    ("text", "hint"), [("yeers", "; perhaps years"), ("mg/dll", "; perhaps mg/dl"), ("furlong", r"\. Correct"), ("", r"\. Correct")]
)
def test_unknown(text, hint):
    with pytest.raises(SchemaError, match=f"Expected a unit such as mg/dL, mmHg or years, found '{text}'{hint}"):
        read_unit(text)


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("glucose (mg/dL)", "mg/dL"),
        ("Weight [kg]", "kg"),
        ("age_years", "years"),
        ("creatinine_mg_dl", "mg/dL"),
        ("Hgb g_dL", "g/dL"),
        ("sodium_mmol_l", "mmol/L"),
        ("SBP_mmHg", "mmHg"),
        ("score (total)", None),
        ("hr_min", None),
        ("age", None),
    ],
)
def test_in_names(name, unit):
    assert unit_in_name(name) == unit


@pytest.mark.parametrize(
    ("given", "wanted", "factor"),
    [
        ("g/dL", "mg/dl", 1000.0),
        ("mg/L", "mg/dL", 0.1),
        ("umol/L", "mmol/L", 1e-3),
        ("lb", "kg", 0.45359237),
        ("inches", "cm", 2.54),
        ("m", "mm", 1000.0),
        ("years", "months", 12.0),
        ("hr", "min", 60.0),
        ("kPa", "mmHg", 7.50062),
        ("cmH2O", "mmHg", 0.735559),
        ("cells/uL", "10^9/L", 1e-3),
        ("K/uL", "x10^9/L", 1.0),
        ("10*3/uL", "10^9/L", 1.0),
        ("x109/L", "10^6/mL", 1.0),
        ("%", "ratio", 0.01),
        ("kg/m2", "g/cm^2", 0.1),
        ("kg/m²", "kg/m^2", 1.0),
        ("mL/min/1.73m2", "L/hr/1.73m2", 0.06),
        ("mL/min/1.73m2", "mL/min/m2", 1 / 1.73),
        ("mEq/L", "meq/dL", 0.1),
        ("mg/100mL", "mg/dL", 1.0),
        ("kcal", "kJ", 4.184),
        ("dag", "g", 10.0),
        ("1/min", "Hz", 1 / 60),
        ("bpm", "bpm", 1.0),
        ("degC", "degC", 1.0),
    ],
)
def test_conversion_there_and_back(given, wanted, factor):
    assert conversion(given, wanted) == (pytest.approx(factor, rel=1e-5), 0.0)
    assert conversion(wanted, given) == (pytest.approx(1 / factor, rel=1e-5), 0.0)


def test_temperatures_have_an_offset():
    factor, offset = conversion("°F", "°C")
    assert [factor * value + offset for value in (98.6, 32.0)] == pytest.approx([37.0, 0.0])
    factor, offset = conversion("degC", "degF")
    assert factor * 37 + offset == pytest.approx(98.6)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("mg/dL", "mmol/L"),
        ("kg", "cm"),
        ("U/L", "IU/L"),
        ("mmol/L", "mEq/L"),
        ("bpm", "breaths/min"),
        ("kg/m2", "kg"),
        ("%", "count"),
        ("years", "points"),
    ],
)
def test_what_measures_something_else_is_refused(given, wanted):
    with pytest.raises(SchemaError, match=f"Expected a unit that can be converted to {wanted}, found {given}. Convert the values"):
        conversion(given, wanted)
    with pytest.raises(SchemaError, match="Expected a unit such as"):
        conversion(given, "furlong")


def test_every_known_unit_can_be_taken_apart():
    """Whatever read_unit lets pass is measured in something."""
    prefixes = ("", "da", *"kKMGdcmunpf")
    letters = ("g", "L", "mol", "m", "s", "min", "d", "Hz", "Pa", "eq", "Eq", "osm", "Osm", "IU", "U", "K", "W", "J", "V", "cal", "kat", "N")
    for unit in [prefix + letter for prefix in prefixes for letter in letters] + sorted({word for word in _WORDS.values() if "/" not in word}):
        assert conversion(unit, unit) == (pytest.approx(1.0), 0.0)
        assert conversion(f"mg/{unit}", f"g/{unit}") == (pytest.approx(1e-3), 0.0)


@pytest.mark.parametrize(("text", "meant"), [("109/L", "10^9/L"), ("103 / uL", "10^3/uL"), ("1012/L", "10^12/L")])
def test_a_power_of_ten_that_lost_its_sign_is_no_number(text, meant):
    with pytest.raises(SchemaError, match=re.escape(f"found {text!r}; perhaps {meant}")):
        read_unit(text)
