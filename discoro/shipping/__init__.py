"""Code and values as bytes, and back: what makes a function of one process a function of another.

``collecting`` and ``packing`` make a bundle, ``codespace`` opens it; ``values`` is all that the rest needs of pickling.
"""
