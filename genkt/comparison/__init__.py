"""Several transfers side by side on the same label draws: one table of paired differences."""
