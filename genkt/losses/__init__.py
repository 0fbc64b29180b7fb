"""Pure functions on tensors: student first, the rest by keyword."""
