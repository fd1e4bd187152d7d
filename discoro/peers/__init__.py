"""What this process has with others: who they are, the way to them, and what goes to and fro between coroutines.

``network`` is the whole, seen from one scheduler; ``peer`` what there is with one other process; ``inbound`` what comes in.
"""
