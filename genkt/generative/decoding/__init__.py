"""Sampling of latent transformers: which tokens, with which caches."""
