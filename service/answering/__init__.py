"""From the images of a request to its answer, whichever protocol it came by."""
