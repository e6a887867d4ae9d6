"""What a trainer keeps on disk, and how it finds it again: versions to build on, and files of single tasks."""
