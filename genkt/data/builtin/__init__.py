"""Images that need no download: handwritten digits, drawn glyphs, photographs of libraries."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
