"""Upstream pictures, and the generator that is trained on them."""
