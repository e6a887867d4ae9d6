"""The HTTP server: what comes in is checked, decoded, batched and answered by the version that the watcher holds.

Start with `routes.classify` and follow a request: `receive`, `decode`, `scoring`, `engine`, `runtimes`, `answers`.

    the process     server, app, services, config, lifecycle, cpus, metrics
    a connection    http_connection, middleware, access, guard, api_keys
    a request       routes, query, classify_query, headers, receive, decode, problems
    images to learn uploads, text, archive, layouts, inspection, submit, turns
    an answer       scoring, engine, tickets, pace, runtimes, answers, trace, memory
    versions        watcher, loading, snapshot, history, kept
    descriptions    document, examples, records, inference_tensors
"""
