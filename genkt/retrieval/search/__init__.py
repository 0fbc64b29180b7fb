"""Which images of a large gallery resemble a few given ones: search, orderings, near copies."""
