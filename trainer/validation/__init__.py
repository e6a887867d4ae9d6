"""What may be served: states measured on held-out images, and refused where they cost earlier tasks too much."""
