"""Batch objectives: what a student is trained on, one file per family of methods."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
