"""A page of runs: one HTML file with interactive figures, which needs neither a server nor a network."""

from simulator.report.page import FILE_NAME, write_report

__all__ = ["FILE_NAME", "write_report"]
