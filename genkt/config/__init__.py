"""The typed settings of every command; ``configs/`` holds their defaults."""
