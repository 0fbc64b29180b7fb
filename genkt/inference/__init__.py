"""Finished models at work: predictions, evaluation, export, code to copy."""
