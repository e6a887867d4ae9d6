"""The engine that batches images, and the version that answers them: loaded, watched for, swapped."""
