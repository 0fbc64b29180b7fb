"""Analysis of any models on any labelled set (``genkt analyze``)."""
