"""A run on disk and in memory: its folder, logs, images, models, finished students."""
