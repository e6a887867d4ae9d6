"""Learning itself: of a state and a task it makes the next state, and knows nothing of queues or of where files lie."""
