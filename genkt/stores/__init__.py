"""Teacher outputs and embeddings on disk: chunk files that cannot go stale."""
