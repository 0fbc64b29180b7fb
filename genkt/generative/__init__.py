"""The generative component: VQGAN, latent transformer, sampling, masks and other completers."""
