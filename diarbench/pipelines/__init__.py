"""The steps between networks and turns: speech spans, windows, embeddings, clusters. All deterministic."""
