"""Metrics on arrays: statistics over draws, flips, agreement, LogME, Frechet distance."""
