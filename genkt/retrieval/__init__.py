"""Retrieved transfer sets: images of a large gallery that resemble a few labelled ones."""
