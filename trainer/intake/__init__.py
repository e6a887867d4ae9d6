"""What the queue brings: claims, and the images and corrections that they name."""
