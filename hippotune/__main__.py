"""`python -m hippotune` is the `hippotune` command."""

from hippotune.main import main

if __name__ == "__main__":
    main()
