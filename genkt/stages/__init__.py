"""The stages of a recipe, one file each: what trains the student, on what, from whom."""
