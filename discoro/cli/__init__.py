"""The commands: ``python -m discoro``, and ``status``, ``stop`` and ``completion`` beside it. ``main`` is the way in."""
