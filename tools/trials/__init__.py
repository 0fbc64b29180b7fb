"""The parts of ``tools/campaign.py``: one file a kind of trial, and what they share."""
