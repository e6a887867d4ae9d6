"""HTTP as such, whatever is asked: connections, who may come in, bodies, queries, and errors as problem documents."""
