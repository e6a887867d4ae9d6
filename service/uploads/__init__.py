"""Images and labels as people bring them: decoded, unpacked, paired, inspected, queued as a task."""
