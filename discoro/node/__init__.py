"""A node: the servers of one machine, each a process, and the parent that starts, watches and restarts them.

``parent`` and ``supervised`` run in the parent, ``serverprocess`` and ``serving`` in each server, ``handle`` in a program
that starts a node of its own.
"""
