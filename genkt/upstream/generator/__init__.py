"""Training a generator once, on upstream pictures: VQGAN, transformer, figures, card."""
