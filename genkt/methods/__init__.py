"""Batch objectives: what a student is trained on, one file per family of methods."""
