"""The floors: the least programs that do the same, without anything that makes them usable. Nothing of discoro is in them."""
