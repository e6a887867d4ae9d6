"""Learns one task at a time, and the worker that claims tasks, learns them and publishes versions.

`Worker` waits for the lease, makes good what a lost Redis took (`store.restored`) and then serves a `Term`, which
decides what comes next:

* a task that arrives goes to the `FastPath`, which loads it (`intake.images`) and serves it by the head alone;
* when none arrives, `Consolidation` trains slots for the oldest that waits, and `Promotion` measures on held-out images
  whether they may be served;
* what people corrected goes through `Corrections`, as features and not as images; an order to forget a task is carried
  out by `Withdrawal`, one to rename or forget a class by `Relabelling`.

All of them share three objects, each the only one that changes what it owns: `Claims` what was taken from the queue and
waits, `Knowledge` the state learned for good and the one served, `Lineage` the versions that these are loaded from and
published as. `Shelves` keep files of single tasks.

The learning itself knows nothing of queues: `Learner` makes of a `LearnerState` and a `Task` the next state, from
features that it takes as a `Describer`; one task's training is `TaskTraining` (`learning.epochs`).

Each room imports only from rooms further down, as `make check` sees to.

    the process     worker, term
    duties          consolidation, corrections, fast_path, knowledge, relabelling, withdrawal
    validation      diagnosis, held_out, promotion, report
    intake          claims, corrected_features, corrected_labels, images
    store           epoch_shelf, lineage, restored, shelves, task_files, upkeep, validation_shelf
    for these       config, heartbeat
    learning        learner, state, task, seen, config, describer, feature_cache, epochs, lessons, views, precision
    learning        forget, relabel
"""
