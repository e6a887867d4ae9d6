"""What computes the forward pass: see `base`."""
