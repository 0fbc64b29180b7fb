"""Where images and labels are read from: folders, lists, tars, torchvision, Hugging Face."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
