"""Analyses on arrays and predictions: statistics over draws, flips between two classifiers."""
