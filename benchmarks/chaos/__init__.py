"""What is lost when everything is killed again and again: nothing, it is hoped, and here it is counted."""
