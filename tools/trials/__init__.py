"""The parts of ``tools/campaign.py``: one file per kind of trial, and what they share."""
