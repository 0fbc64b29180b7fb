"""Images and labels: decoding, folders, torchvision data sets, seeded splits, views and caches."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
