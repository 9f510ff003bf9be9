"""Codes of one cohort's events found again in another: scales that were learned are kept, units are converted or refused."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from graphssl.data.cohort import Cohort
from graphssl.data.normal_scores import NormalScores
from graphssl.data.recent_events import matches
from graphssl.data.shared_columns import describe, frame, keep_columns
from graphssl.data.stream_tokenizer import AbstractStreamTokenizer
from graphssl.data.units import conversion, read_unit
from graphssl.errors import SchemaError

Stream = TypeVar("Stream", bound=AbstractStreamTokenizer)


def carry_over_stream(
    tokenizer: Stream,
    cohort: Cohort,
    columns: Sequence[str] | None = None,
    codes: Sequence[str] | None = None,
    treatments: Sequence[str] | None = None,
) -> tuple[Stream, pd.DataFrame]:
    """A tokenizer for the events of another cohort, which reads shared codes as the given tokenizer does.

    A code is shared if it has the same name in both. Where it has numbers, a unit that ends it (`LAB//creatinine//mg/dL`) is no part of the name,
    and is the same or can be converted; it keeps the scores of its values, in the units of this cohort. Static columns are shared as those of tables
    are. Everything else is learned from this cohort; bins, numbers of events and pieces stay as they are, for weights depend on them.

    Args:
        tokenizer: Fitted on one cohort.
        cohort: Training patients of another, with events.
        columns: Names of its static columns; when left out, those that the tokenizer was told to read, as far as they are there.
        codes: Codes or patterns of codes to read; those that the tokenizer was told when left out.
        treatments: Codes or patterns of codes that are given or not; when left out, those that the tokenizer was told, as far as there are any.

    Returns:
        The tokenizer, and a row a code or column of either cohort, by name: `what` (`"code"`, `"treatment"` or `"column"`), `state` (`"shared"`,
        `"new"` or `"left out"`), `kind`, `unit` here and `learned_unit`, `factor` and `offset` from the one to the other, the `added` categories, and
        its `learned_name`.

    Raises:
        SchemaError: If nothing is shared, or one of the same name is of another kind or of a unit that cannot be converted.
        DataError: If the cohort has no events, or no code of enough patients.
    """
    made = type(tokenizer)(**{**tokenizer.get_params(), **_read(tokenizer, cohort, columns, codes, treatments)}).fit(cohort)
    _check_kinds(tokenizer, made)
    parts = [_keep_codes(tokenizer, made), keep_columns(tokenizer.static_.tokenizer_, made.static_.tokenizer_)]
    if "treatments_" in made.words:
        parts.insert(1, _find_treatments(tokenizer, made))
    found = pd.concat([part for part in parts if len(part)])
    if not (found["state"] == "shared").any():
        learned, now = (", ".join([*each.codes_][:10]) for each in (tokenizer, made))
        raise SchemaError(
            f"Expected at least one code or column of the model ({learned}) in {cohort.name!r}, found {now}. "
            "Rename codes that mean the same, or train on this cohort alone."
        )
    return made, found


def name_and_unit(code: str) -> tuple[str, str | None]:
    """A code without the unit that ends it, and the unit; None where there is none: `LAB//creatinine//mg/dL` is of `mg/dL`."""
    name, mark, last = code.rpartition("//")
    if not mark or not re.search("[A-Za-z%]", last):
        return code, None  # a number is a part of a vocabulary's code
    try:
        return name, read_unit(last)
    except SchemaError:
        return code, None


def _read(tokenizer: AbstractStreamTokenizer, cohort: Cohort, columns: Any, codes: Any, treatments: Any) -> dict[str, Any]:
    """What to read of a cohort: what is named, else what the tokenizer was told to read, as far as the cohort has it."""
    told = tokenizer.get_params()
    if columns is None and told["columns"] is not None:
        columns = [name for name in told["columns"] if name in cohort.schema]
    found = {"columns": columns, "codes": told["codes"] if codes is None else codes}
    if "treatments" in told:
        seen = pd.Index([]) if cohort.events is None else cohort.events.table["code"].cat.categories
        there = [pattern for pattern in told["treatments"] if matches(seen, (pattern,)).any()]
        found["treatments"] = there if treatments is None else treatments
    return found


def _check_kinds(tokenizer: AbstractStreamTokenizer, made: AbstractStreamTokenizer) -> None:
    """Check that no code holds numbers on one side and is given or not on the other."""
    given, learned_given = (set(getattr(each, "treatments_", ())) for each in (made, tokenizer))
    for kind, other, clash in ((_NUMBERS, _GIVEN, given & set(tokenizer.codes_)), (_GIVEN, _NUMBERS, learned_given & set(made.codes_))):
        if clash:
            raise SchemaError(f"Expected the code {min(clash)!r} to be {kind} as in the model, found it {other}. Name it in treatments, or nowhere.")


def _keep_codes(tokenizer: AbstractStreamTokenizer, made: AbstractStreamTokenizer) -> pd.DataFrame:
    """Find shared codes and put the scores that were learned of their numbers into the new tokenizer."""
    shared = _pairs(tokenizer, made)
    old, new = tokenizer.scores_, made.scores_
    quantiles = dict(zip(new.codes, new.quantiles_, strict=True))
    rows = {code: describe("code", "new", *_kind_and_unit(made, code)) for code in made.codes_}
    for code, (learned, factor, offset) in shared.items():
        rows[code] |= {"state": "shared", "learned_name": learned}
        if learned in old.codes:
            quantiles[code] = (old.quantiles_[old.codes.index(learned)] - offset) / factor
            rows[code] |= {"kind": _NUMBERS, "learned_unit": name_and_unit(learned)[1] or "", "factor": factor, "offset": offset}
    made.scores_ = NormalScores([code for code in made.codes_ if code in quantiles])
    made.scores_.quantiles_ = np.array([quantiles[code] for code in made.scores_.codes]).reshape(-1, new.quantiles_.shape[1])
    kept = {learned for learned, _, _ in shared.values()}
    for code in (code for code in tokenizer.codes_ if code not in kept):
        kind, unit = _kind_and_unit(tokenizer, code)
        rows[code] = describe("code", "left out", kind, learned_unit=unit)
    return frame(rows)


def _find_treatments(tokenizer: AbstractStreamTokenizer, made: AbstractStreamTokenizer) -> pd.DataFrame:
    """Treatments by name; they have no scale."""
    learned, now = (getattr(each, "treatments_", ()) for each in (tokenizer, made))
    states = {code: "new" if code not in learned else "shared" if code in now else "left out" for code in (*now, *learned)}
    rows = {code: describe("treatment", state, _GIVEN) for code, state in states.items()}
    return frame({code: {**row, "learned_name": code if row["state"] == "shared" else ""} for code, row in rows.items()})


def _pairs(tokenizer: AbstractStreamTokenizer, made: AbstractStreamTokenizer) -> dict[str, tuple[str, float, float]]:
    """For each shared code its name in the model, and factor and offset from its unit to the one that was learned."""
    pairs = {code: (code, 1.0, 0.0) for code in made.codes_ if code in tokenizer.codes_}
    free = [code for code in tokenizer.scores_.codes if code not in pairs]
    for code in (code for code in made.scores_.codes if code not in pairs):
        name, unit = name_and_unit(code)
        others = [other for other in free if name_and_unit(other)[0] == name]
        fits = [(other, found) for other in others if (found := _conversion(unit, name_and_unit(other)[1])) is not None]
        if others and not fits:
            units = ", ".join(str(name_and_unit(other)[1]) for other in others)
            raise SchemaError(
                f"Expected the code {name!r} in {units} as in the model, or in what can be converted; found {unit}. "
                "Convert the values, correct the unit, or give the code another name."
            )
        if fits:
            other, (factor, offset) = fits[0]
            pairs[code] = (other, factor, offset)
            free.remove(other)
    return pairs


def _conversion(unit: str | None, learned: str | None) -> tuple[float, float] | None:
    """Factor and offset; a unit that is not stated is taken to be the other's. None where it cannot be."""
    if unit is None or learned is None:
        return 1.0, 0.0
    try:
        return conversion(unit, learned)
    except SchemaError:
        return None


def _kind_and_unit(tokenizer: AbstractStreamTokenizer, code: str) -> tuple[str, str | None]:
    return (_NUMBERS, name_and_unit(code)[1]) if code in tokenizer.scores_.codes else (_NOTED, None)


_NUMBERS, _NOTED, _GIVEN = "numbers", "noted", "given or not"
