"""Transfer sets made by a generative model: plan, shards, filters, contact sheet, card."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
