"""The parts of ``tools/defaults_worlds.py`` and of what measures on the worlds it makes."""
