"""How fast discoro is: beside the least program that does the same (``floor``), and beside its peers (``peers``).

One file per question. Each contestant of a question runs in processes of its own; rounds of all of them alternate, so
that what else happens on the machine hits all alike; a figure is the median of its ratios to the floor, round by round.
``python -m benchmarks`` runs everything, ``python -m benchmarks echo runs`` only these.
"""
