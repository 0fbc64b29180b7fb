"""One picture file of any format to upright 8-bit RGB."""
