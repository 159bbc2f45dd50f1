"""The report of a run: one page that says how good an embedding is, to keep or send on."""

from evaluations.report.page import compare, finish, report, report_tested
from evaluations.report.shown import SHOWN, Embedded

__all__ = ["SHOWN", "Embedded", "compare", "finish", "report", "report_tested"]
