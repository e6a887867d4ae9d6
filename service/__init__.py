"""The HTTP server: routes, the batching engine, its runtimes, the web page."""
