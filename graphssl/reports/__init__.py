"""Reports of a run folder: one HTML page, a dictionary, or tables on the terminal. Made from files, without torch."""

from graphssl.reports.explained import explanation_sentences
from graphssl.reports.page import write_report
from graphssl.reports.summary import print_summary, report_summary

__all__ = ["explanation_sentences", "print_summary", "report_summary", "write_report"]
