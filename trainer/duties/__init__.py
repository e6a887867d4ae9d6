"""What a term does: teach the head at once, consolidate, correct, rename, forget; and the knowledge it does it with."""
