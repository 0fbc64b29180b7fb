"""Transfer sets on disk and in Python: read, composed, saved."""
