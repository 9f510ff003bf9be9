"""Where a cohort of a configuration comes from: paths and adapters, their arguments, what is absent, what cannot be."""

import numpy as np
import pandas as pd
import pytest
import yaml

from graphssl.cli import main
from graphssl.data import Atlas, Cohort, Column, Schema, StreamedCohort, write_shards
from graphssl.datasets import GroundTruth
from graphssl.errors import AtlasError, ConfigError, DataError
from graphssl.experiment.cohort_source import CohortSource
from graphssl.experiment.config import read_experiment


def test_an_adapter_is_called_with_atlases_made_of_names():
    cohort, truth = CohortSource("simulate", {"atlases": ["simulated20", "small=simulated10"], "n_subjects": 8, "sites": 2}).load()
    assert isinstance(cohort, Cohort)
    assert isinstance(truth, GroundTruth)
    assert [(name, len(data.atlas)) for name, data in cohort.regions.items()] == [("simulated20", 20), ("small", 10)]


def saved_cohort(folder: str, size: int = 8) -> Cohort:
    """An adapter of somebody's own."""
    return Cohort.load(folder).select(Cohort.load(folder).ids[:size])


def whole_atlas(atlas: Atlas) -> Cohort:
    """An adapter that wants one atlas."""
    assert isinstance(atlas, Atlas)
    raise DataError(f"found {len(atlas)} regions")


def test_an_adapter_may_be_any_function_by_its_dotted_name(make_cohort, tmp_path, monkeypatch):
    import sys

    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "own_adapters", module)
    make_cohort().save(tmp_path / "cohort")
    cohort, truth = CohortSource("own_adapters.saved_cohort", {"folder": str(tmp_path / "cohort"), "size": 6}).load()
    assert (len(cohort), truth) == (6, None)
    with pytest.raises(DataError, match="found 12 regions"):
        CohortSource("own_adapters.whole_atlas", {"atlas": "simulated12"}).load()


def test_errors_of_the_data_stay_what_they_are(tmp_path):
    with pytest.raises(DataError, match="Expected a folder at"):
        CohortSource("load_timeseries", {"folder": str(tmp_path / "none"), "atlas": "simulated20"}).load()
    with pytest.raises(AtlasError, match="simulated<N>"):
        CohortSource("load_timeseries", {"folder": str(tmp_path), "atlas": "cc2000"}).load()


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("load_timeserie", r"found 'load_timeserie'\. Did you mean 'load_timeseries'\?"),
        ("zzz", "function of graphssl.datasets or a dotted name, found 'zzz'"),
        ("no_such_package.load", "found 'no_such_package.load'"),
        ("os.environ", "found 'os.environ'"),
        ("", "found ''"),
    ],
)
def test_unknown_adapters(adapter, message):
    with pytest.raises(ConfigError, match=message):
        CohortSource(adapter).load()


def test_sources_of_the_same_subjects_are_put_side_by_side(make_cohort, tmp_path):
    cohort = make_cohort(n_subjects=8)
    cohort.save(tmp_path / "scans")
    more = pd.DataFrame({"height": range(8)}, index=cohort.subjects.index)
    Cohort("table", more.astype(float), Schema([Column("height", "continuous")])).save(tmp_path / "table")
    source = CohortSource(path=str(tmp_path / "scans"), beside=[{"path": str(tmp_path / "table")}])
    both = source.load()[0]
    assert both.subjects["height"].tolist() == list(range(8))
    assert set(both.regions) == set(cohort.regions)
    assert source.absent() == []
    assert CohortSource(path=str(tmp_path / "scans"), beside=[{"path": str(tmp_path / "none")}]).absent() == [str(tmp_path / "none")]
    with pytest.raises(ConfigError, match="Expected sources beside the first with adapter, arguments, path.*found 'paht'. Did you mean 'path'"):
        CohortSource(path=str(tmp_path / "scans"), beside=[{"paht": "x"}]).load()


def test_sites_of_a_source(make_cohort, tmp_path):
    simulated = {"adapter": "simulate", "arguments": {"atlases": ["simulated20"], "n_subjects": 12, "sites": 3}}
    whole = CohortSource(**simulated).load()[0]
    two = CohortSource(**simulated, sites=["site-1", "site-3"]).load()[0]
    other = CohortSource(**simulated, without_sites=["site-1", "site-3"]).load()[0]
    assert set(two.sites) == {"site-1", "site-3"}
    assert set(other.sites) == {"site-2"}
    assert {*two.ids, *other.ids} == set(whole.ids)
    assert two.name == whole.name
    with pytest.raises(ConfigError, match=r"Expected sites of 'simulated' \(site-1, site-2, site-3\), found 'site_2'\. Did you mean 'site-2'"):
        CohortSource(**simulated, sites=["site_2"]).load()


def test_a_path_is_opened_as_what_it_is_recognised_as(write, make_cohort, tmp_path):
    cohort = make_cohort(n_subjects=8)
    folder = str(cohort.save(tmp_path / "saved"))
    experiment, text = read_experiment(["--config", write(cohort={"path": folder})])
    assert experiment.cohort.load()[0].hash == cohort.hash
    assert yaml.safe_load(text)["cohort"] == {"path": folder, "arguments": {}}
    plain = yaml.safe_load(read_experiment(["--config", write()])[1])
    assert not {"path", "beside"} & set(plain["cohort"]), "runs of adapters keep their hash"
    assert "modalities" not in plain, "and so do those of one kind of data"
    assert "missing" not in plain["evaluation"]
    np.savetxt(tmp_path / "01.csv", np.full((20, 20), 0.3), delimiter=",")
    matrices = {"path": str(tmp_path / "01.csv"), "arguments": {"atlas": "simulated20"}}
    experiment, _ = read_experiment(["--config", write(cohort=matrices), "--cohort.arguments.fisher_z", "true"])
    assert experiment.cohort.load()[0].regions["simulated20"].provenance.fisher_z


def test_options_of_a_path_are_those_of_the_command_line(write, tmp_path):
    with pytest.raises(ConfigError, match=r"options, found 'atlases'\. Did you mean 'atlas'\?"):
        CohortSource(path=str(tmp_path), arguments={"atlases": ["simulated20"]}).load()
    with pytest.raises(DataError, match="Expected a folder or a file at .*none, found nothing"):
        CohortSource(path=str(tmp_path / "none")).load()
    for settings, found in (({}, "neither"), ({"path": "x", "adapter": "simulate"}, "both")):
        with pytest.raises(ConfigError, match=f"Expected the cohort to have a path or an adapter, found {found}"):
            read_experiment(["--config", write(cohort=settings)])


def test_arguments_of_the_adapter():
    with pytest.raises(ConfigError, match=r"arguments of simulate, found 'n_subject'\. Did you mean 'n_subjects'\?"):
        CohortSource("simulate", {"atlases": ["simulated20"], "n_subject": 8}).load()
    with pytest.raises(ConfigError, match=r"arguments that simulate needs, found none for one of them: missing a required argument: 'atlases'"):
        CohortSource("simulate", {"n_subjects": 8}).load()


def test_the_address_of_a_database(write, tmp_path, capsys):
    plain, with_password = "postgresql://reader@host/omop", "postgresql://reader:s3cret@host/omop"
    assert CohortSource("load_omop", {"source": plain}).absent() == []
    path = write(cohort={"adapter": "load_omop", "arguments": {"source": with_password}})
    with pytest.raises(ConfigError, match="Expected the address of a database without a password") as caught:
        read_experiment(["--config", path])
    assert "s3cret" not in str(caught.value)
    assert main(["pretrain", "--config", str(path), "--output", str(tmp_path / "runs")]) == 2
    assert "s3cret" not in "".join(capsys.readouterr())
    assert not (tmp_path / "runs").exists()


def test_absent_files_are_named(tmp_path):
    (tmp_path / "scans").mkdir()
    here, table = str(tmp_path / "scans"), str(tmp_path / "atlas.tsv")
    source = CohortSource("load_timeseries", {"folder": here, "atlas": f"own={table}", "participants": str(tmp_path / "none.tsv")})
    assert source.absent() == [str(tmp_path / "none.tsv"), table]
    assert CohortSource("load_timeseries", {"folder": here, "atlas": "simulated20"}).absent() == []
    assert CohortSource("load_abide_arrays", {"root": "no/such", "atlases": ["cc200=no/such.csv", "simulated20"]}).absent() == [
        "no/such",
        "no/such.csv",
    ]
    assert CohortSource("simulate", {"atlases": ["simulated20"]}).absent() == []
    assert CohortSource(path=here, arguments={"atlas": f"own={table}", "participants": "none.tsv"}).absent() == ["none.tsv", table]
    assert CohortSource(path="no/such").absent() == ["no/such"]
    with pytest.raises(ConfigError, match="Did you mean 'folder'"):
        CohortSource("load_timeseries", {"foldr": here}).absent()


def test_a_window_streams_shards_and_stands_beside_a_path_alone(make_cohort, tmp_path):
    path = str(write_shards(make_cohort(n_subjects=8), tmp_path / "shards", size=3))
    streamed = CohortSource(path=path, window=2).open()
    assert isinstance(streamed, StreamedCohort)
    assert streamed.window == 2
    assert CohortSource(path=path).open().hash == CohortSource(path=path).load()[0].hash == make_cohort(n_subjects=8).hash
    with pytest.raises(ConfigError, match="Expected a cohort in memory, found window=2"):
        CohortSource(path=path, window=2).load()
    with pytest.raises(ConfigError, match="a window beside the path of a cohort in shards alone, found sites too"):
        CohortSource(path=path, window=2, sites=["site-0"])
