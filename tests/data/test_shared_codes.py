"""Codes found again in another cohort: what is kept, in which unit, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from graphssl.data import Column, Events, EventTokenizer, Schema, TimelineTokenizer
from graphssl.data.shared_codes import carry_over_stream, name_and_unit
from graphssl.errors import DataError, SchemaError

TOKENIZERS = {
    "timeline": TimelineTokenizer(n_bins=6, bin_hours=4.0, treatments=["ventilator"], min_subjects=3, n_pieces=4),
    "events": EventTokenizer(min_subjects=3, n_pieces=4),
}


def renamed(cohort, names, factors=None):
    """The cohort with other codes, and values of some of them times a factor plus an offset."""
    table = cohort.events.table.copy()
    for code, (factor, offset) in (factors or {}).items():
        here = table["code"] == code
        table.loc[here, "numeric_value"] = (table.loc[here, "numeric_value"] * factor + offset).astype("float32")
    return replace(cohort, events=Events.of(table.assign(code=table["code"].astype("str").replace(names))))


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request):
    return TOKENIZERS[request.param]


def test_a_unit_ends_a_code():
    assert name_and_unit("LAB//creatinine//mg/dL") == ("LAB//creatinine", "mg/dL")
    assert name_and_unit("temp//degf") == ("temp", "degF")
    for code in ("pulse", "LAB//50912", "ICU_ADMISSION//Medical", "DIAGNOSIS//ICD//10"):
        assert name_and_unit(code) == (code, None)


def test_the_same_value_is_the_same_score_whatever_its_unit(ward, tokenizer):
    """Temperatures in Fahrenheit there, pulses as they were, in another cohort with others around."""
    first = renamed(ward(n=30), {"temp": "temp//degC"})
    fitted = type(tokenizer)(**tokenizer.get_params()).fit(first)
    again = renamed(ward(n=30), {"temp": "temp//degF"}, {"temp": (1.8, 32.0)})
    made, found = carry_over_stream(fitted, again)
    assert_allclose(made.transform(again).values, fitted.transform(first).values, atol=2e-3)
    assert found.loc["temp//degF", ["state", "unit", "learned_unit", "learned_name"]].tolist() == ["shared", "degF", "degC", "temp//degC"]
    assert found.loc["temp//degF", "factor"] == pytest.approx(1 / 1.8)
    assert found.loc["pulse", ["what", "state", "kind", "factor", "offset"]].tolist() == ["code", "shared", "numbers", 1.0, 0.0]
    other = ward(n=12, seed=5)
    kept, _ = carry_over_stream(fitted, other)
    place = fitted.scores_.codes.index("pulse")
    assert_allclose(kept.scores_.quantiles_[kept.scores_.codes.index("pulse")], fitted.scores_.quantiles_[place])
    assert not np.allclose(type(tokenizer)(**tokenizer.get_params()).fit(other).scores_.quantiles_[0], fitted.scores_.quantiles_[place])


def test_the_rest_is_learned_here_or_left_out(ward, tokenizer):
    fitted = type(tokenizer)(**tokenizer.get_params()).fit(ward())
    planted = tuple((f"p{k}", 20.0, "lactate", 2.0 + k, None) for k in range(8))
    second = renamed(ward(seed=1, planted=planted), {"temp": "temperature"})
    table = second.subjects.drop(columns="sex")
    schema = Schema([column for column in second.schema if column.name != "sex"])
    second = replace(second, subjects=table, schema=schema)
    made, found = carry_over_stream(fitted, second)
    states = {"pulse": "shared", "ventilator": "shared", "lactate": "new", "temperature": "new", "temp": "left out", "sex": "left out"}
    states |= {"age": "shared", "height": "shared", "ward": "shared", "smokes": "shared"}
    assert found["state"].to_dict() == states
    alone = type(tokenizer)(**tokenizer.get_params()).fit(second)
    for code in ("lactate", "temperature"):
        quantiles = [each.scores_.quantiles_[each.scores_.codes.index(code)] for each in (made, alone)]
        assert_allclose(*quantiles)
    assert fitted.codes_ == type(tokenizer)(**tokenizer.get_params()).fit(ward()).codes_, "the given one is left as it is"
    assert set(found["what"]) == ({"code", "treatment", "column"} if isinstance(fitted, TimelineTokenizer) else {"code", "column"})


def test_only_what_is_named_is_read(ward, tokenizer):
    fitted = type(tokenizer)(**{**tokenizer.get_params(), "columns": ["age", "sex"]}).fit(ward())
    second = ward(seed=1)
    table, columns = second.subjects.drop(columns="sex").assign(weight=70.5), [column for column in second.schema if column.name != "sex"]
    second = replace(second, subjects=table, schema=Schema([*columns, Column("weight", "continuous")]))
    _, found = carry_over_stream(fitted, second, codes=["pulse"])
    assert found["state"].to_dict() | {"ventilator": ""} == {
        "pulse": "shared",
        "temp": "left out",
        "ventilator": "",
        "age": "shared",
        "sex": "left out",
        "height": "shared",
        "smokes": "shared",
        "ward": "shared",
    }, "weight was never told to be read"


def test_treatments_that_nobody_was_given_are_left_out(ward):
    tokenizer = TimelineTokenizer(n_bins=6, bin_hours=4.0, treatments=["ventilator", "dialysis*"], min_subjects=2)
    planted = tuple((f"p{k}", 20.0, "dialysis", np.nan, None) for k in range(3))
    fitted = tokenizer.fit(ward(planted=planted))
    made, found = carry_over_stream(fitted, ward(seed=1))
    assert (fitted.treatments_, made.treatments_) == (("dialysis", "ventilator"), ("ventilator",))
    assert found.loc["dialysis", ["what", "state", "kind"]].tolist() == ["treatment", "left out", "given or not"]
    _, named = carry_over_stream(fitted, ward(seed=1), treatments=[])
    assert named.loc["ventilator", "state"] == "left out"


def test_numbers_that_are_too_few_here_keep_the_scale_that_was_learned(ward):
    """Ten ventilators with a number there, two of them here."""
    with_numbers, few = (tuple((f"p{k}", 20.0, "ventilator", 5.0 + k, None) for k in range(n)) for n in (10, 2))
    fitted = EventTokenizer(min_subjects=3).fit(ward(planted=with_numbers))
    second = ward(seed=1, planted=few)
    assert "ventilator" not in EventTokenizer(min_subjects=3).fit(second).scores_.codes
    made, found = carry_over_stream(fitted, second)
    assert found.loc["ventilator", ["state", "kind"]].tolist() == ["shared", "numbers"]
    batch = made.transform(second)
    here = (batch.codes == made.codes_.index("ventilator")) & batch.has_value
    assert here.sum() == 2


def test_one_of_several_units_fits(ward):
    planted = tuple((f"p{k}", 20.0, f"glucose//{unit}", 5.0 + k, None) for k in range(8) for unit in ("mg/dL", "mmol/L"))
    fitted = EventTokenizer(min_subjects=3).fit(ward(planted=planted))
    second = renamed(ward(planted=planted), {"glucose//mmol/L": "glucose//umol/L", "glucose//mg/dL": "sugar"})
    _, found = carry_over_stream(fitted, second)
    assert found.loc["glucose//umol/L", ["state", "learned_name", "factor"]].tolist() == ["shared", "glucose//mmol/L", pytest.approx(1e-3)]
    assert found.loc["glucose//mg/dL", "state"] == "left out"


def test_what_does_not_fit_is_refused(ward, tokenizer):
    fitted = type(tokenizer)(**tokenizer.get_params()).fit(renamed(ward(), {"temp": "temp//degC"}))
    with pytest.raises(SchemaError, match="Expected the code 'temp' in degC as in the model, or in what can be converted; found mmHg. Convert"):
        carry_over_stream(fitted, renamed(ward(), {"temp": "temp//mmHg"}))
    strange = renamed(ward(), {"temp": "a", "pulse": "b", "ventilator": "c", "height": "d", "ward": "e", "smokes": "f"})
    with pytest.raises(SchemaError, match=r"at least one code or column of the model \(pulse, temp//degC.* in 'ward', found a, b"):
        carry_over_stream(fitted, strange, columns=(), **({"treatments": ()} if isinstance(fitted, TimelineTokenizer) else {}))
    with pytest.raises(DataError, match="Expected events in 'ward', found none"):
        carry_over_stream(fitted, replace(ward(), events=None))


def test_numbers_do_not_become_treatments(ward):
    settings = {"n_bins": 6, "bin_hours": 4.0, "min_subjects": 3}
    numbers, treatment = (TimelineTokenizer(**settings, treatments=given).fit(ward()) for given in ((), ("temp",)))
    with pytest.raises(SchemaError, match="Expected the code 'temp' to be numbers as in the model, found it given or not"):
        carry_over_stream(numbers, ward(), treatments=["temp"])
    with pytest.raises(SchemaError, match="Expected the code 'temp' to be given or not as in the model, found it numbers"):
        carry_over_stream(treatment, ward(), treatments=[])
