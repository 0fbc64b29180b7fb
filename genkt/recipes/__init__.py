"""Whole pipelines: from data and models to a finished run."""
