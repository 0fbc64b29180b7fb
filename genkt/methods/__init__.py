"""Batch objectives: what a student is trained on, one file a family of methods."""
