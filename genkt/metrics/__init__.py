"""Arrays in, numbers out: intervals over draws and images, flips, agreement, LogME, Frechet."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
