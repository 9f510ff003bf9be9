"""What a reader copies from a page is executed, page by page and in order, beside the files the page speaks of."""

import re
import shlex
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from graphssl import cli
from graphssl.atlases import simulated_atlas
from graphssl.datasets import simulate
from graphssl.experiment.config import read_experiment

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "tutorials").glob("*.md")), *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
# Commands alone, started by torchrun or SLURM; tests of training over processes run them.
PAGES.remove(ROOT / "docs" / "how-to" / "scale.md")
PAGES += [
    ROOT / "docs" / "methods" / "atlas-autoencoder.md",
    ROOT / "docs" / "methods" / "atlas-transport.md",
    ROOT / "docs" / "methods" / "hyper-initializer.md",
    ROOT / "docs" / "methods" / "image-encoders.md",
    ROOT / "docs" / "methods" / "maml.md",
    ROOT / "docs" / "methods" / "meta-learning.md",
    ROOT / "docs" / "methods" / "transfer.md",
    ROOT / "docs" / "methods" / "views.md",
    ROOT / "docs" / "methods" / "population-transformer.md",
    ROOT / "docs" / "methods" / "timeline-transformer.md",
    ROOT / "docs" / "methods" / "event-transformer.md",
    ROOT / "docs" / "concepts" / "population-graphs.md",
    ROOT / "docs" / "concepts" / "what-the-numbers-mean.md",
]
# The other blocks of these pages read data sets that nobody may pass on; the tests of their adapters write files in the same layout.
RUN_AT_HAND = {"own-tables.md": 2}
OF_DOCS = ("how-to/convert-atlas.md", "how-to/harmonize-sites.md", "how-to/own-data.md", "reference/cli.md", "tutorials/own-connectomes.md")
PAGES_WITH_COMMANDS = [ROOT / "README.md", *(ROOT / "docs" / name for name in OF_DOCS)]


def blocks_of(page: Path, language: str) -> list[tuple[int, str]]:
    """A page's blocks of a language, each with the line it starts in."""
    text = page.read_text(encoding="utf-8")
    blocks = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, block.start(2)), block.group(2)) for block in blocks if block.group(1) == language]


@pytest.fixture
def folder_of_scans(tmp_path, monkeypatch):
    """A working folder with what the pages name: scans/, matrices/, participants.tsv, atlas.tsv, and tables of patients and of events."""
    cohort = simulate([simulated_atlas(20)], n_subjects=32, sites=2, missing_region_rate=0.0, seed=1).cohort
    data = next(iter(cohort.regions.values()))
    for folder in ("scans", "matrices"):
        (tmp_path / folder).mkdir()
    for subject, series in data.values.items():
        np.savetxt(tmp_path / "scans" / f"{subject}.tsv", series, fmt="%.5f", delimiter="\t")
        np.save(tmp_path / "matrices" / f"{subject}.npy", np.corrcoef(series.T))
    cohort.subjects.rename_axis("participant_id").to_csv(tmp_path / "participants.tsv", sep="\t")
    rows = zip(data.atlas.labels, data.atlas.names, *data.atlas.centroids.T.round(1), data.atlas.networks, strict=True)
    lines = ["label\tname\tx\ty\tz\tnetwork", *("\t".join(map(str, row)) for row in rows)]
    (tmp_path / "atlas.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    patients = ["site,age,sex,chol,trestbps,num", *(f"{'ab'[k % 2]},{50.5 + k},{k % 2},{200 + k},{120 + k},{k % 5}" for k in range(12))]
    (tmp_path / "heart_all_sites.csv").write_text("\n".join(patients) + "\n", encoding="utf-8")
    (tmp_path / "events.csv").write_text(
        "subject_id,time,code,numeric_value\nrow-0000001,2026-01-01,pulse,80\nrow-0000001,2026-01-03,pulse,90\n", encoding="utf-8"
    )
    write_abide(tmp_path, cohort)
    write_physionet2012(tmp_path / "physionet2012")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_abide(folder, cohort):
    """Twelve regions of a simulated cohort in the layout of the Preprocessed Connectomes Project, with its table."""
    data = next(iter(cohort.regions.values()))
    labels, scans = data.atlas.labels[:12], folder / "ABIDE_pcp" / "cpac" / "filt_global" / "rois_cc200"
    scans.mkdir(parents=True)
    rows = [f"{label},r{label},{x:.1f},{y:.1f},{z:.1f},Visual" for label, (x, y, z) in zip(labels, data.atlas.centroids[:12], strict=True)]
    (folder / "cc200.csv").write_text("label,name,x,y,z,network\n" + "\n".join(rows) + "\n", encoding="utf-8")
    header = "\t".join(f"#{label}" for label in labels)
    people = []
    for k, (subject, series) in enumerate(data.values.items()):
        site = ("CALTECH", "OLIN")[k % 2]
        name = f"{site.title()}_00{50102 + k}"
        np.savetxt(scans / f"{name}_rois_cc200.1D", series[:, :12], fmt="%.5f", delimiter="\t", header=header, comments="")
        sick = cohort.target()[subject] == cohort.target().iloc[0]
        people.append(f"{50102 + k},{site},{name},{2 - sick},{10 + k / 2},{1 + k % 2},100,1,{0.05 + k / 100},OK,OK,OK,OK,OK")
    columns = "SUB_ID,SITE_ID,FILE_ID,DX_GROUP,AGE_AT_SCAN,SEX,FIQ,EYE_STATUS_AT_SCAN,func_mean_fd,"
    columns += "qc_rater_1,qc_anat_rater_2,qc_func_rater_2,qc_anat_rater_3,qc_func_rater_3"
    (folder / "ABIDE_pcp" / "Phenotypic_V1_0b_preprocessed1.csv").write_text("\n".join([columns, *people]) + "\n", encoding="utf-8")


def write_physionet2012(folder):
    """Forty stays of the Challenge of 2012 as published: one text file a stay, and the outcomes of set a."""
    rng = np.random.default_rng(0)
    (folder / "set-a").mkdir(parents=True)
    outcomes = ["RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death"]
    for k in range(40):
        record, died = 132539 + k, k % 4 == 0
        lines = [f"00:00,{name},{value}" for name, value in (("RecordID", record), ("Age", 40 + k), ("Gender", k % 2), ("Height", -1))]
        lines += [f"00:00,ICUType,{1 + k % 4}", "00:00,Weight,80"]
        for hour in range(0, 48, 4):
            lines += [f"{hour:02d}:10,HR,{80 + 15 * died + rng.normal(0, 8):.0f}", f"{hour:02d}:20,GCS,{max(3, 14 - 4 * died - hour // 24)}"]
        (folder / "set-a" / f"{record}.txt").write_text("Time,Parameter,Value\n" + "\n".join(lines) + "\n", encoding="utf-8")
        outcomes.append(f"{record},6,1,5,-1,{int(died)}")
    (folder / "Outcomes-a.txt").write_text("\n".join(outcomes) + "\n", encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_code_of_the_page_runs(page, folder_of_scans):
    blocks = blocks_of(page, "python")
    assert blocks, f"{page.name} has no Python block to run"
    names = {"__name__": "__main__"}
    with mpl.rc_context({"backend": "agg"}):
        for line, code in blocks[: RUN_AT_HAND.get(page.name)]:
            # Lines are counted as in the page, so a traceback points at the right one.
            exec(compile("\n" * line + code, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_of_the_page_run(page, folder_of_scans, capsys):
    """Runs that would train for minutes are read and not started; the one configuration of a page is the file its commands name."""
    for _, configuration in blocks_of(page, "yaml"):
        (folder_of_scans / "my-study.yaml").write_text(configuration, encoding="utf-8")
    lines = [line for _, block in blocks_of(page, "") for line in block.splitlines() if line.startswith("graphssl ") and "<" not in line]
    assert lines
    for line in lines:
        verb, *words = shlex.split(line.partition(" > ")[0])[1:]
        if verb == "evaluate":
            experiment, _ = read_experiment(words)
            assert len(experiment.cohort.load()[0]) == 32
        else:
            assert cli.main([verb, *words]) == cli.DONE, capsys.readouterr().err


def test_blocks_are_found_with_their_lines(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```python\na = 1\n```\n\ntext\n\n```\nnot code\n```\n\n```python\nb = a + 1\n```\n", encoding="utf-8")
    assert blocks_of(page, "python") == [(3, "a = 1\n"), (13, "b = a + 1\n")]
    assert blocks_of(page, "") == [(9, "not code\n")]
