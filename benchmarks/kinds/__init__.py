"""Images that are no photographs, drawn here, and how well they are told apart."""
