"""Training data out of long videos: shots found, runs of shots that belong together kept, captions written.

Every step's result is on disk before the next begins; nothing here knows a network that is trained.
"""
