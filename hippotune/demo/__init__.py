"""The main job, end to end, over real HTTP: teach a server task after task and see what it keeps."""
