"""Programs for asyncoro (2012 to 2018) and pycos (2018 to 2022), run as they are.

Put ``discoro.compat.`` in front of what is imported, and change nothing else::

    import asyncoro.disasyncoro as asyncoro     import discoro.compat.asyncoro.disasyncoro as asyncoro
    from pycos import *                         from discoro.compat.pycos import *

This is a thin layer of names and codes: where discoro raises, these programs expect -1, 0 or None, and here alone that is
made. ``docs/migration.md`` lists every name, and what does not work and why. Nothing of discoro imports this package.
"""
