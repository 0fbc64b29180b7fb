"""The main job: method and baseline on several label draws, report, exported student."""
