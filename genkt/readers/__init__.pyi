"""What ``from genkt.readers import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .folders import (
    read_folder as read_folder,
    read_unlabelled as read_unlabelled,
)
from .huggingface import (
    read_huggingface as read_huggingface,
)
from .single_files import (
    read_files as read_files,
)
from .split_list import (
    read_split_list as read_split_list,
)
from .tars import (
    read_tars as read_tars,
)
from .torchvision_sets import (
    from_dataset as from_dataset,
    read_torchvision as read_torchvision,
    read_torchvision_part as read_torchvision_part,
)
