"""What the API document describes beyond the routes: tasks, versions, and examples of every answer."""
