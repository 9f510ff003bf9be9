"""The command line: `graphssl <verb>`.

Exit codes: 0 done, 1 the run failed, 2 the input or the configuration is wrong, or the disk is full. Progress and errors go to
stderr, results to stdout.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from graphssl import __version__
from graphssl.errors import ConfigError, InputError, MissingExtraError
from graphssl.folders import storage_error
from graphssl.progress import progress_shown

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from graphssl.experiment.config import Experiment
    from graphssl.experiment.parser import Parser
    from graphssl.experiment.sources import Source

Settings = TypeVar("Settings")
Verb = Callable[[Sequence[str]], None]

DONE, FAILED, WRONG_INPUT = 0, 1, 2
# Options of sources that are for tables; the atlas of scans to convert is --from.
_OF_IMAGES = ("form", "masks", "mask_classes", "labels", "folders", "person", "damaged", "empty_masks")
_NOT_OF_SCANS = ("atlas", "schema", "positive", "drop", "missing", *_OF_IMAGES)
_FIRST_STEPS = """
New here? These need no data of yours:
  graphssl demo --smoke        the whole walk at its smallest, in a minute: pre-train, fine-tune, compare, report
  graphssl info                what is installed, which devices there are, which data are found
With data: graphssl validate FOLDER says what a folder or file holds and what to do next."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        arguments: Words after the program's name; those of the process when left out.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["help"]:
        words = [*words[1:2], "--help"]
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return DONE if words else WRONG_INPUT
    if words in (["--version"], ["-V"]):
        print(f"graphssl {__version__}")
        return DONE
    debug = "--debug" in words
    try:
        verb = _verb(words[0])
        with progress_shown("--quiet" not in words):
            verb(words[1:])
        sys.stdout.flush()
    except SystemExit as stop:  # --help of a verb
        return int(stop.code or 0)
    except (InputError, MissingExtraError) as error:
        return _fail(error, WRONG_INPUT, debug)
    except BrokenPipeError:  # whoever read the output has enough of it
        _close_stdout()
        return DONE
    except OSError as error:
        return _fail_of_system(error, debug)
    except KeyboardInterrupt:
        print("Stopped. The same command goes on from the last checkpoint.", file=sys.stderr)
        return FAILED
    except Exception as error:
        return _fail(error, FAILED, debug)
    return DONE


def demo(words: Sequence[str]) -> None:
    """simulate a four-site, two-atlas cohort, pre-train, fine-tune, compare with baselines, write a report"""
    from graphssl.experiment.demo import demo_configuration
    from graphssl.experiment.evaluate import run_evaluate

    parser = _experiment_parser(demo)
    parser.set_defaults(demo_configuration())
    parsed = _parse(parser, words)
    experiment, text = _instantiate(parser, parsed)
    _print_evaluation(run_evaluate(experiment, text, progress=not parsed.quiet), parsed)


def validate(words: Sequence[str]) -> None:
    """say what a folder or configuration holds, what is missing, what was left out and why"""
    from graphssl.experiment.source_report import report_source
    from graphssl.experiment.sources import open_source, told_as_options

    parser = _source_parser(validate)
    parser.add_argument("--schema_out", type=str | None, default=None, help="file to write the columns to (YAML), to correct and give with --schema")
    parsed = _parse(parser, words)
    with told_as_options():
        source = _source(parsed)
        cohort = None if parsed.schema_out is None else open_source(source)
        text, record = report_source(source, cohort)
    if cohort is not None:
        cohort.schema.save(parsed.schema_out)
        text, record = f"{text}\nSchema written to {parsed.schema_out}", {**record, "schema": parsed.schema_out}
    print(json.dumps(record) if parsed.json else text)


def build(words: Sequence[str]) -> None:
    """turn a folder of files into a cohort folder that loads in a moment"""
    from graphssl.data import write_shards
    from graphssl.experiment.source_report import report_source
    from graphssl.experiment.sources import open_source, told_as_options

    parser = _source_parser(build)
    parser.add_argument("--out", type=str, required=True, help="cohort folder to write")
    parser.add_argument("--shards", type=int | None, default=None, help="write shards of so many subjects, which `graphssl pretrain` can stream")
    parsed = _parse(parser, words)
    source = _source(parsed)
    with told_as_options():
        cohort = open_source(source)
    folder = cohort.save(parsed.out) if parsed.shards is None else write_shards(cohort, parsed.out, size=parsed.shards)
    text, record = report_source(source, cohort)
    _print(f"{text}\nWritten to {folder}", {**record, "written": str(folder)}, parsed)


def harmonize(words: Sequence[str]) -> None:
    """take out of a cohort folder what its sites add, and show how well the site can be read before and after"""
    from graphssl.experiment.harmonize import Harmonization, run_harmonize

    parser = _parser(harmonize)
    parser.add_argument("cohort", type=str, help="cohort folder, from graphssl build")
    parser.add_class_arguments(Harmonization, None, skip={"cohort"})
    parsed = _parse(parser, words)
    text, record = run_harmonize(_filled(Harmonization, parsed))
    _print(text, record, parsed)


def convert_atlas(words: Sequence[str]) -> None:
    """convert scans or a cohort from one atlas to another, and report coverage and expected error of each region"""
    from graphssl.experiment.convert import Conversion, run_convert
    from graphssl.experiment.sources import Source

    parser = _parser(convert_atlas)
    parser.add_argument("path", type=str, help="file, folder of files, or cohort folder to convert")
    parser.add_argument("--from", type=str | None, default=None, help="atlas of the data: a name, a file, or NAME=FILE; as the map has it with --map")
    parser.add_argument("--to", type=str | None, default=None, help="atlas of the result, likewise")
    parser.add_class_arguments(Conversion, None, skip={"scans", "source", "target", "repair", "keep"})
    parser.add_argument("--repair", action="store_true", help="replace matrices that are not positive semi-definite by the nearest that are")
    parser.add_argument("--keep", action="store_true", help="keep the data in the source atlas in the cohort that is written")
    parser.add_class_arguments(Source, None, skip={"path", *_NOT_OF_SCANS})
    parsed = _parse(parser, words)
    scans = Source(**{field.name: parsed[field.name] for field in fields(Source) if field.name not in _NOT_OF_SCANS})
    given = {field.name: parsed[field.name] for field in fields(Conversion) if field.name not in ("scans", "source", "target")}
    text, record = run_convert(Conversion(scans, source=parsed["from"], target=parsed["to"], **given))
    _print(text, record, parsed)


def pretrain(words: Sequence[str]) -> None:
    """pre-train an encoder on a cohort without its labels"""
    from graphssl.experiment.pretrain import run_pretrain

    experiment, text, parsed = _experiment(pretrain, words)
    found = run_pretrain(experiment, text, progress=not parsed.quiet)
    if not found:  # one of several processes, which took part in training
        return
    _print(f"Encoder: {found['encoder']} ({found['epoch_kept']})", found, parsed)


def meta_train(words: Sequence[str]) -> None:
    """learn from several cohorts what a small one is to start from, and adapt to that"""
    from graphssl.experiment.meta import run_meta_train
    from graphssl.experiment.meta_config import instantiate_meta, meta_parser

    parser = _with_smoke(_with_common(meta_parser(), meta_train))
    parsed = _parse(parser, words)
    experiment, text = instantiate_meta(parser, parsed, smoke=parsed.smoke)
    found = run_meta_train(experiment, text, progress=not parsed.quiet)
    if not found:  # one of several processes, which took part in training
        return
    lines = [
        f"{name}: AUROC " + ", ".join(f"{value:.3f} with {k} of each class" for k, value in scores.items())
        for name, scores in {**found["auroc"], **found["baselines"]}.items()
    ]
    _print("\n".join([*lines, f"Encoder: {found['encoder']}", f"Report: {found['report']}"]), found, parsed)


def finetune(words: Sequence[str]) -> None:
    """give a pre-trained encoder a head for a target"""
    from graphssl.experiment.finetune import run_finetune

    def more(parser: "Parser") -> None:
        parser.add_argument("--model", type=str | None, default=None, help="model folder to start from; the run's own encoder when left out")

    experiment, text, parsed = _experiment(finetune, words, more)
    found = run_finetune(experiment, text, model=parsed.model, progress=not parsed.quiet)
    if not found:  # one of several processes, which took part in training
        return
    _print("\n".join([*filter(None, [found.get("transfer")]), f"Model: {found['model']}"]), found, parsed)


def evaluate(words: Sequence[str]) -> None:
    """score methods and baselines, or all cells of a study, on the same splits and write a report"""
    from graphssl.experiment.evaluate import run_evaluate
    from graphssl.experiment.shipped import with_shipped
    from graphssl.experiment.study import is_study

    if is_study(with_shipped(words)):
        _evaluate_study(words)
        return
    experiment, text, parsed = _experiment(evaluate, words)
    _print_evaluation(run_evaluate(experiment, text, progress=not parsed.quiet), parsed)


def _evaluate_study(words: Sequence[str]) -> None:
    from graphssl.evaluation.shares import Share
    from graphssl.experiment.study import instantiate_study, run_study_of, study_parser

    parser = _with_smoke(_with_common(study_parser(), evaluate))
    parser.add_argument("--share", type=str, help="of the cells, such as 3/16: the third of sixteen processes; without it, the rest and the report")
    parsed = _parse(parser, words)
    study, text = instantiate_study(parsed)
    share = None if parsed.share is None else Share.parse(parsed.share)
    found = run_study_of(study, text, smoke=parsed.smoke, share=share, progress=not parsed.quiet)
    counts = ", ".join(f"{name} {n}" for name, n in found["cells"].items())
    made = f"Table: {found['table']}\nReport: {found['report']}" if share is None else "The same command without --share makes table and report."
    _print(f"Cells: {counts}\n{made}", found, parsed)


def embed(words: Sequence[str]) -> None:
    """write the embeddings (and predictions) of a cohort folder"""
    from graphssl.experiment.embed import embed as write_embedding

    parser = _parser(embed)
    parser.add_argument("--model", type=str, required=True, help="model folder")
    parser.add_argument("--cohort", type=str, required=True, help="cohort folder, from graphssl build")
    parser.add_argument("--out", type=str, required=True, help="file to write, .parquet or .csv")
    parsed = _parse(parser, words)
    table = write_embedding(parsed.model, parsed.cohort, parsed.out)
    named = table.get("unknown_categories", table["subject_id"].map(lambda _: "")).str.split("; ").explode()
    unknown = {str(name): int(count) for name, count in named[named != ""].value_counts().items()}
    lines = [f"{count} with a category of {name!r} that no training subject had: read as unknown" for name, count in unknown.items()]
    text = "\n".join([f"{len(table)} subjects × {len(table.columns) - 1} columns: {parsed.out}", *lines])
    _print(text, {"written": parsed.out, "n_subjects": len(table), "unknown_categories": unknown}, parsed)


def explain(words: Sequence[str]) -> None:
    """write what the model of a run (or a saved one) reads: tables of regions, connections and networks, checks and figures"""
    from graphssl.experiment.explain import explain_model, explain_run

    parser = _parser(explain)
    parser.add_argument("run", type=str | None, nargs="?", default=None, help="run folder; its model is also fitted again on its folds and seeds")
    parser.add_argument("--refits", type=int | None, default=None, help="refits of a run at most; one a fold and seed when left out, 0 for none")
    parser.add_argument("--model", type=str | None, default=None, help="model folder, instead of a run")
    parser.add_argument("--cohort", type=str | None, default=None, help="cohort folder, from graphssl build, to explain the model on")
    parser.add_argument("--out", type=str | None, default=None, help="folder to write the explanation of the model to")
    parser.add_argument("--atlas", type=str | None, default=None, help="atlas to explain; the model's first when left out")
    parsed = _parse(parser, words)
    saved = [parsed.model, parsed.cohort, parsed.out]
    if parsed.run is not None and not any(saved):
        found = explain_run(parsed.run, atlas=parsed.atlas, refits=parsed.refits)
    elif parsed.run is None and all(saved):
        found = explain_model(*saved, atlas=parsed.atlas)
    else:
        raise ConfigError("Expected a run folder, or --model, --cohort and --out together; found neither or both. See graphssl explain --help.")
    _print("\n".join([*found["sentences"], f"Explanation: {found['explanation']}"]), found, parsed)


def report(words: Sequence[str]) -> None:
    """write the report of a run folder anew"""
    from graphssl.experiment.runs import held, read_manifest
    from graphssl.reports import is_meta_run, is_study_run, write_meta_report, write_report, write_study_report

    parser = _parser(report)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("--ids", action="store_true", help="name the subjects and scans that were left out, which else are counted")
    parsed = _parse(parser, words)
    read_manifest(Path(parsed.run))  # a folder that is none is not made
    with held(Path(parsed.run)):
        if is_meta_run(parsed.run) or is_study_run(parsed.run):
            written = {"run": parsed.run, "report": str((write_meta_report if is_meta_run(parsed.run) else write_study_report)(parsed.run))}
            _print(f"Report: {written['report']}", written, parsed)
            return
        page = write_report(parsed.run, ids=parsed.ids)
        _print_evaluation({"run": parsed.run, "report": str(page)}, parsed)


def audit(words: Sequence[str]) -> None:
    """check a run folder: hashes, splits, leakage, results against predictions, the control with shuffled labels"""
    from graphssl.experiment.audit import as_records, audit_run, audit_text

    parser = _parser(audit)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument(
        "--cohort", type=str | None, default=None, help="cohort folder that the run was of; what its configuration names when left out"
    )
    parser.add_argument("--shuffle", action="store_true", help="fit the cheapest baseline of the run on shuffled labels now")
    parsed = _parse(parser, words)
    checks = audit_run(parsed.run, cohort=parsed.cohort, shuffle=parsed.shuffle)
    n_findings = sum(check.status == "finding" for check in checks)
    _print(audit_text(checks), {"run": parsed.run, "n_findings": n_findings, "checks": as_records(checks)}, parsed)
    if n_findings:
        raise SystemExit(FAILED)


def methods(words: Sequence[str]) -> None:
    """list every method: family, what it works on and needs, source, configuration, and what in it is a reconstruction"""
    from graphssl.methods import as_records, as_text
    from graphssl.methods import methods as find

    parser = _parser(methods)
    parser.add_argument("--family", type=str | None, default=None, help="methods of one family, such as contrastive")
    parsed = _parse(parser, words)
    chosen = find(parsed.family)
    print(json.dumps(as_records(chosen), ensure_ascii=False) if parsed.json else as_text(chosen))


def info(words: Sequence[str]) -> None:
    """say what this installation is and has: versions, extras, devices, and data found in the folders of GRAPHSSL_… variables"""
    from graphssl.experiment.info import report_info

    parsed = _parse(_parser(info), words)
    text, record = report_info()
    print(json.dumps(record) if parsed.json else text)


def completion(words: Sequence[str]) -> None:
    """print the script with which bash, zsh or fish complete verbs, options and files"""
    from graphssl.experiment.completion import Shell, completion_script

    parser = _parser(completion)
    parser.add_argument("shell", type=Shell, help="bash, zsh or fish")
    parsed = _parse(parser, words)
    script = completion_script(VERBS, parsed.shell, OTHER_OPTIONS)
    print(json.dumps({"shell": parsed.shell, "script": script}) if parsed.json else script)


def _name(verb: Verb) -> str:
    return verb.__name__.replace("_", "-")


# Verbs that take other options where a configuration asks for something else.
OTHER_OPTIONS: dict[str, Verb] = {"evaluate": _evaluate_study}

VERBS: dict[str, tuple[Verb, str]] = {
    _name(verb): (verb, (verb.__doc__ or "").strip())
    for verb in (
        demo,
        validate,
        build,
        harmonize,
        convert_atlas,
        pretrain,
        meta_train,
        finetune,
        evaluate,
        embed,
        explain,
        report,
        audit,
        methods,
        info,
        completion,
    )
}


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {what}" for name, (_, what) in VERBS.items()]
    usage = "usage: graphssl <verb> [options]\n\n" + "\n".join(lines) + "\n\nEach verb has --help. Exit codes: 0 done, 1 failed, 2 wrong input."
    return f"{usage}\n{_FIRST_STEPS}"


def _verb(word: str) -> Verb:
    if word in VERBS:
        return VERBS[word][0]
    from graphssl.experiment.parser import nearest

    meant = nearest(word, [*VERBS, "--help", "--version"])
    raise ConfigError(f"Expected a verb among {', '.join(VERBS)}; found {word!r}.{meant} See graphssl --help.")


def _fail(error: Exception, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    words = " ".join(str(error).split())
    if code == FAILED:
        words = f"the run failed with {type(error).__name__}: {words or 'no message'}" + ("" if debug else " (--debug shows where)")
    print(f"graphssl: {words}", file=sys.stderr)
    return code


def _fail_of_system(error: OSError, debug: bool) -> int:
    refused = storage_error(error)
    if refused is None:
        return _fail(error, FAILED, debug)
    _close_stdout()
    return _fail(refused, WRONG_INPUT, debug)


def _close_stdout() -> None:
    """What could not be printed is given up, or the interpreter would try again at its end and change the exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser(verb: Verb) -> "Parser":
    from graphssl.experiment.parser import Parser

    return _with_common(Parser(allow_abbrev=False), verb)


def _experiment_parser(verb: Verb) -> "Parser":
    from graphssl.experiment.config import experiment_parser

    return _with_smoke(_with_common(experiment_parser(), verb))


def _with_smoke(parser: "Parser") -> "Parser":
    parser.add_argument("--smoke", action="store_true", help="run end to end for one step on the smallest data, to test a configuration")
    return parser


def _with_common(parser: "Parser", verb: Verb) -> "Parser":
    name = _name(verb)
    parser.prog, parser.description = f"graphssl {name}", VERBS[name][1]
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def _source_parser(verb: Verb) -> "Parser":
    from graphssl.experiment.sources import Source

    parser = _parser(verb)
    parser.add_argument("path", type=str, help="folder of files, or a saved cohort")
    parser.add_class_arguments(Source, None, skip={"path"})
    return parser


def _source(parsed: "Namespace") -> "Source":
    from graphssl.experiment.sources import Source

    return _filled(Source, parsed)


def _filled(kind: type[Settings], parsed: "Namespace") -> Settings:
    """A dataclass with the arguments of its fields' names."""
    return kind(**{field.name: parsed[field.name] for field in fields(kind)})  # type: ignore[arg-type]


def _parse(parser: "Parser", words: Sequence[str]) -> "Namespace":
    from graphssl.experiment.shipped import with_shipped

    return parser.parse_args(with_shipped(words))


def _experiment(verb: Verb, words: Sequence[str], more: Callable[["Parser"], None] | None = None) -> tuple["Experiment", str, "Namespace"]:
    parser = _experiment_parser(verb)
    if more is not None:
        more(parser)
    parsed = _parse(parser, words)
    return *_instantiate(parser, parsed), parsed


def _instantiate(parser: "Parser", parsed: "Namespace") -> tuple["Experiment", str]:
    from graphssl.experiment.config import instantiate
    from graphssl.experiment.smoke import instantiate_small

    return instantiate_small(parser, parsed) if parsed.smoke else instantiate(parser, parsed)


def _print(text: str, record: dict[str, Any], parsed: "Namespace") -> None:
    print(json.dumps(record) if parsed.json else text)


def _print_evaluation(found: dict[str, Any], parsed: "Namespace") -> None:
    from rich.console import Console

    from graphssl.reports import print_summary, report_summary

    if parsed.json:
        print(json.dumps({**found, "summary": report_summary(found["run"])}))
        return
    print_summary(found["run"], Console())
    print(f"Report: {found['report']}")
