"""What each command of `hippotune` does, one noun a module. They import the other rooms only when run."""
