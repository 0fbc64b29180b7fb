"""Which images of a large gallery resemble a few given ones: search, orderings, near copies."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
