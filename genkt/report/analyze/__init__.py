"""The report of an analysis: analyze.json, analyze.html."""
