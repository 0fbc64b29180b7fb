"""What ``from genkt.retrieval.search import ...`` gives."""

# ruff: noqa: I001  (one statement per module)

from .duplicates import (
    Cluster as Cluster,
    NearCopies as NearCopies,
    near_duplicates as near_duplicates,
)
from .nearest import (
    ArrayGallery as ArrayGallery,
    Gallery as Gallery,
    Ranked as Ranked,
    nearest as nearest,
)
from .ordering import (
    Ordering as Ordering,
    best_matches as best_matches,
    query_balanced as query_balanced,
    random_order as random_order,
)
from .selection import (
    count_different as count_different,
    guess_k as guess_k,
    select as select,
)
