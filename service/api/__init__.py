"""How tasks and versions are told, and what the API document says beyond the routes, examples included."""
