"""Settings: from YAML files, command-line words and Python arguments to one typed tree."""
