"""The science: a frozen vision transformer with retrieval pools, the loop over them, and the streaming head."""
