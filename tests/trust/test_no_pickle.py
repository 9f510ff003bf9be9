"""Nothing that is read can run code: no unpickling, no eval and no loader of code in the package, and none met on the way of a hostile file."""

import ast
import functools
import importlib
import importlib.util
import inspect
import io
import pickle
import pkgutil
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import graphssl
from graphssl.errors import GraphSSLError

ROOT = Path(graphssl.__file__).parent
# The one module that reads pickles, with an unpickler that makes plain containers and descriptions of arrays, and calls nothing.
RESTRICTED = "datasets/pickled.py"
MODULES = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle", "code", "ctypes", "runpy")
NAMES = ("eval", "exec", "compile", "__import__")
CALLS = ("read_pickle", "read_hdf", "unsafe_load", "full_load", "load_all", "load_from_checkpoint", "system", "popen", "literal_eval")


@functools.cache
def trees():
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def keywords(call):
    return {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}


def forbidden(call):
    """What is wrong with a call, or nothing."""
    name = ast.unparse(call.func)
    last, given = name.rpartition(".")[2], keywords(call)
    if name in NAMES or (last in CALLS and name != "ast.literal_eval"):
        return f"{name} runs or unpickles what it is given"
    if name == "torch.load" and given.get("weights_only") is not True:
        return "torch.load without weights_only=True"
    if name in ("torch.jit.load", "torch.hub.load", "joblib.load", "yaml.load"):
        return f"{name} runs or unpickles what it is given"
    if name in ("np.load", "numpy.load") and given.get("allow_pickle", False) is not False:
        return "np.load(allow_pickle=True)"
    if last in ("run", "Popen", "call", "check_output") and given.get("shell"):
        return "a shell"
    if last == "fit" and "ckpt_path" in given and given.get("weights_only") is not True:
        return "Trainer.fit of a checkpoint without weights_only=True"
    return None


def test_no_module_imports_a_loader_of_code():
    found = {name: sorted({*imported(tree)} & {*MODULES}) for name, tree in trees().items()}
    assert {name: modules for name, modules in found.items() if modules} == {RESTRICTED: ["pickle"]}


def test_no_call_runs_what_it_reads():
    calls = [(name, node) for name, tree in trees().items() for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert len(calls) > 5000
    wrong = [f"{name}:{call.lineno}: {forbidden(call)}" for name, call in calls if forbidden(call)]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "np.load(p, allow_pickle=True)",
        "yaml.load(t)",
        "eval(t)",
        "pd.read_pickle(p)",
        "run(x, shell=True)",
    ],
)
def test_the_walk_knows_what_it_looks_for(text):
    assert forbidden(ast.parse(text).body[0].value)


def test_the_restricted_unpickler_is_the_only_one_that_is_made():
    """It is made in one place, of the class whose `find_class` looks up nothing."""
    tree = trees()[RESTRICTED]
    uses = sorted({ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("pickle.")})
    assert uses == ["pickle.Unpickler"]
    from graphssl.datasets import pickled

    (class_,) = [value for _, value in inspect.getmembers(pickled, inspect.isclass) if issubclass(value, pickle.Unpickler)]
    unpickler = class_(io.BytesIO(b""))
    for module, name in (
        ("os", "system"),
        ("builtins", "eval"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "add"),
        ("torch", "load"),
        ("pathlib", "Path"),
    ):
        with pytest.raises(Exception, match=name):
            unpickler.find_class(module, name)


# Hostile files


class Hostile:
    """Makes a file when it is unpickled the ordinary way."""

    def __init__(self, victim):
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


def hostile_contents(victim):
    """A pickle in every wrapping in which a loader may look for one."""
    plain = pickle.dumps({"state_dict": Hostile(victim), "callbacks": {}})
    old, new, array, arrays = (io.BytesIO() for _ in range(4))
    torch.save({"state_dict": Hostile(victim)}, old, _use_new_zipfile_serialization=False)
    torch.save({"state_dict": Hostile(victim)}, new)
    np.save(array, np.array({"corr": Hostile(victim)}, dtype=object), allow_pickle=True)
    np.savez(arrays, values=np.array([Hostile(victim)], dtype=object), subject_id=np.array(["a"]), offsets=np.array([0, 1]))
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("archive/data.pkl", plain)
    text = f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{victim}']]".encode()
    return {
        "pickle": plain,
        "torch": old.getvalue(),
        "torch zip": new.getvalue(),
        "npy": array.getvalue(),
        "npz": arrays.getvalue(),
        "zip": zipped.getvalue(),
        "yaml": text,
    }


def test_the_traps_work(tmp_path):
    victim = tmp_path / "victim"
    contents = hostile_contents(victim)
    victim.unlink(missing_ok=True)
    for name, load in {
        "pickle": lambda data: pickle.loads(data),
        "torch": lambda data: torch.load(io.BytesIO(data), weights_only=False),
        "torch zip": lambda data: torch.load(io.BytesIO(data), weights_only=False),
        "npy": lambda data: np.load(io.BytesIO(data), allow_pickle=True),
        "npz": lambda data: np.load(io.BytesIO(data), allow_pickle=True)["values"],
    }.items():
        load(contents[name])
        assert victim.exists(), name
        victim.unlink()


def readers():
    spec = importlib.util.spec_from_file_location("readers_of_files", Path(__file__).with_name("test_readers.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


READERS = readers()


@pytest.fixture
def no_code(monkeypatch):
    """Whatever would unpickle raises instead, in a way that no reader can catch."""

    class RanError(BaseException):
        pass

    def never(*_, **__):
        raise RanError

    from graphssl.datasets import pickled  # its class is made of the true unpickler

    assert pickled
    for name in ("load", "loads", "Unpickler", "_load", "_loads", "_Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    return RanError


@pytest.mark.parametrize("name", READERS.CASES)
def test_a_hostile_file_is_refused_or_not_read(name, tmp_path, no_code):
    """Each kind of file of every reader is replaced by two of the traps."""
    replaced_by_traps(READERS.CASES[name], tmp_path, first=len(name), n=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS.CASES)
def test_every_hostile_file_is_refused_or_not_read(name, tmp_path, no_code):
    replaced_by_traps(READERS.CASES[name], tmp_path, first=0, n=7)


def replaced_by_traps(case, folder, first, n):
    """Put traps in place of each kind of file of a case, `n` of them from one on, and read."""
    victim = folder / "victim"
    traps = list(hostile_contents(victim).items())
    (folder / "whole").mkdir()
    case.write(folder / "whole")
    files = {path.suffix or path.name: path.relative_to(folder / "whole") for path in sorted((folder / "whole").rglob("*")) if path.is_file()}
    for number, place in enumerate(files.values()):
        for k in range(n):
            trap, content = traps[(first + number + k) % len(traps)]
            shutil.rmtree(folder / "hostile", ignore_errors=True)
            shutil.copytree(folder / "whole", folder / "hostile")
            (folder / "hostile" / place).write_bytes(content)
            READERS.outcome(case, folder / "hostile")
            assert not victim.exists(), (place, trap)


def test_a_hostile_checkpoint_is_refused(tmp_path, no_code):
    from graphssl.training.checkpoint import read_checkpoint

    contents = hostile_contents(tmp_path / "victim")
    for name, content in contents.items():
        (tmp_path / "last.ckpt").write_bytes(content)
        with pytest.raises(GraphSSLError, match="a pickle of other things"):
            read_checkpoint(tmp_path / "last.ckpt")
        assert not (tmp_path / "victim").exists(), name


# Every function that reads a file is tried: by a case of its own, or on the way of one
COVERED = {
    "load_label_volume",
    "load_atlas",
    "load_parcellation",
    "read_region_table",
    "read_label_volume",
    "AtlasMap.load",
    "Cohort.load",
    "read_dicom",
    "read_header",
    "Events.load",
    "read_picture",
    "ImageData.load",
    "Schema.load",
    "load_abide",
    "load_abide_arrays",
    "read_table",
    "read_array",
    "read_labelled",
    "read_cifti",
    "read_data_dictionary",
    "load_derivatives",
    "load_folder",
    "load_graph_dictionary",
    "read_dictionary",
    "read_edge_list",
    "read_graphml",
    "load_images",
    "Layout.load",
    "load_source",
    "read_matlab",
    "read_matlab_pages",
    "read_hdf5",
    "load_matrices",
    "load_meds",
    "read_participants",
    "read_text_table",
    "load_physionet2012",
    "load_physionet2019",
    "read_pickled",
    "RecordMapping.load",
    "load_omop",
    "load_records",
    "FileFormat.load",
    "FileFormat.read",
    "read_regions",
    "load_scans",
    "read_shards",
    "read_table_files",
    "read_text_file",
    "load_tables",
    "load_tadpole",
    "load_timeseries",
    "CohortHarmonizer.load",
    "read_results",
    "Model.from_pretrained",
    "load_model",
    "HyperInitializer.from_pretrained",
    "initialize",
    "load_tiles",
    "ShardFolder",
    "StreamedCohort",
    "audit_run",
    "read_run",
    "read_meta_run",
    "read_study_run",
    "read_selection",
}
# Tried elsewhere: seals in tests/experiment/test_audit.py, checkpoints above and in tests/trust/test_tampered.py, downloads as what they fetch.
ELSEWHERE = {"read_seal", "broken", "seal", "seal_replaced", "read_checkpoint", "fetch_atlas", "fetch_abide", "fetch_medmnist"}
# What takes a path and reads no file of a user: why, and which.
NO_READERS = {
    "writes only": {
        *("AtlasMap.save", "Cohort.save", "Events.save", "ImageData.save", "Schema.save", "CohortHarmonizer.save", "Model.save_pretrained"),
        *(
            "HyperInitializer.save_pretrained",
            "write_array",
            "save_brainnet_viewer",
            "write_scan",
            "write_explanation",
            "write_results",
            "save_objective",
            "keep_stage",
        ),
        *("write_conversion_report", "write_page", "write_shards", "written_whole", "file_written_whole", "storing", "unseal", "held"),
        *("simulate_images", "simulate_modalities", "simulate_multimodal", "draw_images", "images_folder"),
    },
    "trains into a folder, and reads what it left there as a checkpoint or model": {
        *("evaluate", "refit_saliencies", "run_study", "finetune", "fit", "meta_train", "pretrain", "trained", "finetune_segmentation"),
        *("pretrain_stages", "EpochCheckpoint", "Stage", "StageRun", "MetaTrainer", "prepared_pool"),
    },
    "a verb, which reads a run or a model by what is tried": {
        *("embed", "explain_run", "explain_model", "write_report", "write_meta_report", "write_study_report", "write_selection_page"),
        *("report_summary", "print_summary"),
    },
    "holds a path, or what was read from it": {
        *(
            "AtlasConverter",
            "ImageData",
            "ImageData.at",
            "images_at",
            "PopulationBuilder.images_at",
            "Matches",
            "People",
            "People.with_table",
            "Page",
        ),
        *("Scan", "Listing", "FileFormat", "MetaRun", "StudyRun", "EvaluationRun", "RunFolder", "Unit", "units_of"),
    },
    "looks at names, sizes or hashes, or whether a thing is there": {
        *(
            "check_labels",
            "check_centroids",
            "volume_stem",
            "check_written_ending",
            "find_files",
            "match_stems",
            "match_files",
            "list_files",
            "links_to_nothing",
            "join",
        ),
        *(
            "find_participants",
            "find_series",
            "series_files",
            "content_hash",
            "file_hash",
            "files_of",
            "ordinary",
            "is_hdf5",
            "is_pickled",
            "is_postgres",
        ),
        *("ImageData.lies_in", "is_saved_cohort", "is_meta_run", "is_study_run", "check_files", "the_only", "real_numbers", "recognise"),
    },
    "a step of a reader that is tried": {
        *("atlas_from_table", "atlas_from_volume", "label_centroids", "array_names", "array_of", "volume_of", "find_arrays", "look_at"),
        *("matlab_variables", "hdf5_shapes", "whole", "read_optional", "read_mapping", "read_text", "read_connectome", "read_manifest"),
        *("check_readable", "EvaluationAudit", "EvaluationAudit.read_data", "MetaAudit", "finished_stage", "read_objective", "header_of"),
    },
}


def test_no_reader_of_files_was_forgotten():
    """Whatever takes a path is tried on damaged files, or it is said why not."""
    reasons = [*NO_READERS.values(), COVERED, ELSEWHERE]
    known = set().union(*reasons)
    assert sum(map(len, reasons)) == len(known), "named twice"
    assert set(map(without_module, given_a_path())) == known


def without_module(name):
    """`data.cohort.Cohort.load` → `Cohort.load`."""
    parts = name.split(".")
    return ".".join(parts[-2:] if parts[-2][0].isupper() else parts[-1:])


def given_a_path():
    """Public functions, constructors and methods of the package that are given a place by annotation, by dotted name."""
    found = set()
    for info in pkgutil.walk_packages(graphssl.__path__, "graphssl."):
        module = importlib.import_module(info.name)
        own = {name: value for name, value in vars(module).items() if not name.startswith("_") and getattr(value, "__module__", None) == info.name}
        for name, value in own.items():
            methods = [method for method in vars(value) if not method.startswith("_")] if inspect.isclass(value) else []
            for dotted, function in [(name, value), *((f"{name}.{method}", getattr(value, method, None)) for method in methods)]:
                if callable(function) and takes_a_place(function):
                    found.add(f"{info.name.removeprefix('graphssl.')}.{dotted}")
    return found


def takes_a_place(function):
    try:
        kinds = [str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()]
    except (TypeError, ValueError):
        return False
    return any("Path" in kind for kind in kinds)
