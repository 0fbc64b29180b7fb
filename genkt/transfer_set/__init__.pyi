"""What ``from genkt.transfer_set import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .composition import (
    TransferSet as TransferSet,
    read_transfer_set as read_transfer_set,
)
from .open_images import (
    open_images as open_images,
)
from .parts import (
    Part as Part,
    Provenance as Provenance,
)
from .read_set import (
    is_transfer_set as is_transfer_set,
)
from .set_files import (
    ImageFiles as ImageFiles,
    Record as Record,
    ShardWriter as ShardWriter,
    read_records as read_records,
    read_tokens as read_tokens,
)
from .set_rows import (
    SetRows as SetRows,
    Stored as Stored,
)
