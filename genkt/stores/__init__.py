"""Teacher outputs and embeddings on disk: chunk files that cannot go stale."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
