"""Training: one visible loop for every objective, optimizers, and teachers' cached outputs."""
