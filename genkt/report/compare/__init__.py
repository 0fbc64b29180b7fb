"""The report of a comparison: compare.json, compare.html, a Markdown table."""
