"""What trainer and service say to each other: tasks and versions, through Redis and a folder that both can reach.

Start with `records`, what is said; `queue` carries tasks one way, `registry` versions the other.

    tasks           records, fields, queue, queue_lua, tasks, handling, repeats, adoption
    versions        registry, registry_lua, moves, shelf
    on disk         blobs, files, upkeep
    in Redis        connection, embedded, children, redis_keys, lease, relay
    faults          errors
"""
