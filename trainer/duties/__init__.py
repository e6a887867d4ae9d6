"""What a term does, one duty each: teach the head at once, consolidate, correct, rename, forget."""
