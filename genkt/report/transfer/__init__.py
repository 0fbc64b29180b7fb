"""The report of a transfer: report.json, report.html, a table for the terminal."""
