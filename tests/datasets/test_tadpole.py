"""TADPOLE: baseline visits in the true columns of its table."""

import numpy as np
import pytest

from graphssl.datasets import load_tadpole
from graphssl.errors import DataError, SchemaError

HEAD = "RID,PTID,VISCODE,SITE,EXAMDATE,DX_bl,AGE,PTGENDER,APOE4,CDRSB,ADAS11,MMSE,RAVLT_immediate,Hippocampus,WholeBrain,Entorhinal,MidTemp,FDG,ICV"
ROWS = """2,011_S_0002,bl,11,2005-09-08,CN,74.3,Male,0,0,10.67,28,44,8336,1229740,4177,16559,1.36926,1984660
3,011_S_0003,bl,11,2005-09-12,AD,81.3,Male,1,4.5,22,20,22,5319,1129830,1791,15506,1.09079,1920690
3,011_S_0003,m06,11,2006-03-13,AD,81.3,Male,1,6,19,24,19,5446,1100060,2427,14400,1.06360,1906430
4,022_S_0004,bl,22,2005-11-08,LMCI,67.5,Female,0,1,14.33,27,37,6869,1154980,3983,19036, ,1679440
5,011_S_0005,bl,11,2005-09-07,SMC,73.7,Female,,0,8.67,29,37,7075,1116630,4433,24788,-4,1640770
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "TADPOLE_D1_D2.csv"
    path.write_text(f"{HEAD}\n{ROWS}")
    return path


def test_baseline_visits(table):
    cohort = load_tadpole(table.parent)
    assert cohort.ids == ["011_S_0002", "011_S_0003", "022_S_0004", "011_S_0005"]
    assert cohort.target().tolist() == ["CN", "AD", "MCI", "CN"]
    assert cohort.sites.tolist() == ["11", "11", "22", "11"]
    np.testing.assert_array_equal(cohort.subjects["FDG"], [1.36926, 1.09079, np.nan, np.nan])
    assert cohort.subjects["APOE4"].tolist()[:3] == ["0", "1", "0"]
    assert len(cohort.schema.named("feature")) == 12
    assert {"ICV", "EXAMDATE", "RID"} == set(cohort.excluded["id"])
    assert load_tadpole(table, visit="m06").ids == ["011_S_0003"]


def test_what_does_not_fit_is_named(table, tmp_path):
    with pytest.raises(DataError, match=r"Expected TADPOLE_D1_D2\.csv at .*Ask ADNI for it"):
        load_tadpole(tmp_path / "other.csv")
    with pytest.raises(DataError, match=r"Expected visits 'm99' in .*found \['bl', 'm06'\]"):
        load_tadpole(table, visit="m99")
    for change, message in [
        (("FDG", "PET"), r"found none called \['FDG'\]"),
        (("LMCI", "Dementia"), r"Expected diagnoses among CN, .*found \['Dementia'\]"),
        (("m06", "bl"), r"Expected each subject id once, found 1 repeated: \['011_S_0003'\]"),
    ]:
        table.write_text(f"{HEAD}\n{ROWS}".replace(*change))
        with pytest.raises(SchemaError, match=message):
            load_tadpole(table)
