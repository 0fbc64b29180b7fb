"""Training a generator once, on upstream pictures: VQGAN, latent transformer, figures, card."""
