"""Learns one task at a time, and the worker that claims tasks, learns them and publishes versions.

`Worker` (worker.py) waits for the lease, makes good what a lost Redis took (restored.py) and then serves a `Term`
(term.py), which decides what comes next:

* a task that arrives goes to the `FastPath` (fast_path.py), which loads it (images.py) and serves it by the head alone;
* when none arrives, `Consolidation` (consolidation.py) trains slots for the oldest that waits, `Promotion`
  (promotion.py) measures on held-out images whether they may be served;
* what people corrected goes through `Corrections` (corrections.py), as features and not as images
  (corrected_features.py); an order to forget a task is carried out by `Withdrawal` (withdrawal.py), one to rename or
  forget a class by `Relabelling` (relabelling.py).

All of them share three objects, each the only one that changes what it owns: `Claims` (claims.py) what was taken from
the queue and waits, `Knowledge` (knowledge.py) the state learned for good and the one served, `Lineage` (lineage.py)
the versions that these are loaded from and published as. `Shelves` (shelves.py) keep files of single tasks.

The learning itself knows nothing of queues: `Learner` (learner.py) makes of a `LearnerState` (state.py) and a `Task`
(task.py) the next state, from features that it takes as a `Describer` (describer.py); one task's training is
`TaskTraining` (epochs.py), forgetting one is in forget.py, renaming and forgetting a class in relabel.py.
"""
