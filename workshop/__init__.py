"""The SDK's second room: what is done to fabula itself rather than to a story, a file for each trade.

`fabula.py` hands these functions on and loads them when they are first used; nobody else imports them. Like
`fabula.py`, this package composes, and may import all of ours but `fabula.py` itself (docs/decisions/0012).
"""
