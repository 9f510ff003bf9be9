"""Units: one spelling of each, those unknown are refused, and names of columns tell theirs."""

import pytest

from graphssl.data.units import read_unit, unit_in_name
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
