"""Training and measuring the shipped teacher of the built-in digits."""
