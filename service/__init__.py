"""The HTTP server: what comes in is checked, decoded, batched and answered by the version that the watcher holds.

Start with `routes.classify` and follow a request: `http.receive`, `uploads.decode`, `answering.scoring`,
`engine.batching`, `runtimes`, `answering.answers`. Each room imports only from rooms further down, as `make check` sees
to; the page in `web` is no Python.

    the process     app, server
    routes          classify, events, feedback, inference, labels, operations, page, tasks, versions
    api             document, examples, history, records
    answering       answers, classify_query, inference_parameters, inference_tensors, scoring, trace
    uploads         archive, decode, images, inspection, layouts, submit, text
    its parts       services
    engine          batching, loading, memory, pace, snapshot, tickets, watcher
    runtimes        auto, base, bfloat16, graphs, load, onnx, torch
    http            access, api_keys, connection, etags, forms, guard, handlers, headers, lifecycle,
                    middleware, problems, query, receive, timer
    for all         config, cpus, metrics, turns
"""
