"""What a run tells its reader: report.json, a self-contained report.html, a text table."""
