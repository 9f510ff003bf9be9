"""Reports of a run folder and of conversions between atlases: one HTML page, a dictionary, or tables on the terminal. Made without torch."""

from graphssl.reports.conversion import ConversionReport, RoundTrip, conversion_facts, conversion_summary
from graphssl.reports.conversion_page import write_conversion_report
from graphssl.reports.explained import explanation_sentences
from graphssl.reports.meta import is_meta_run, write_meta_report
from graphssl.reports.page import write_report
from graphssl.reports.selection import write_selection_page
from graphssl.reports.study import is_study_run, write_study_report
from graphssl.reports.summary import print_summary, report_summary

__all__ = [
    "ConversionReport",
    "RoundTrip",
    "conversion_facts",
    "conversion_summary",
    "explanation_sentences",
    "is_meta_run",
    "is_study_run",
    "print_summary",
    "report_summary",
    "write_conversion_report",
    "write_meta_report",
    "write_report",
    "write_selection_page",
    "write_study_report",
]
