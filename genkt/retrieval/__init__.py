"""Retrieved transfer sets: images of a large gallery that resemble a few labelled ones."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
