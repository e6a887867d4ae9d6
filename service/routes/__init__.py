"""One file a noun. Routes translate between HTTP and the parts that do the work."""
