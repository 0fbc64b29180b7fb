"""Transfer sets made by a generative model: plan, shards, filters, contact sheet, card."""
