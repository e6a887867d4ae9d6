"""What trainer and service say to each other: tasks and versions, through Redis and a folder that both can reach.

Start with `records` and `manifests`, what is said. `queue` carries tasks one way, to be taken at `work`; `registry`
carries versions the other.

    tasks           records, fields, queue, queue_lua, work, work_lua, tasks, handling, repeats
    versions        manifests, registry, registry_lua, pruning, moves, shelf
    on disk         blobs, files, reading, upkeep
    in Redis        connection, embedded, children, redis_keys, lease, relay
    faults          errors
"""
