"""Models: the timm adapter and what loads weights into it."""
