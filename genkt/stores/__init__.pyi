"""What ``from genkt.stores import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .chunk_files import (
    StoreError as StoreError,
    StoreLayout as StoreLayout,
)
from .embeddings import (
    EmbeddingStore as EmbeddingStore,
)
from .teacher_outputs import (
    OutputStore as OutputStore,
    StoreWriter as StoreWriter,
)
