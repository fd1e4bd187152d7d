"""transport: numbered batches of entries, and files, between processes that have proved one secret to each other.

It knows no coroutine. The way in is :class:`.endpoint.Endpoint`; what travels is described in :mod:`.frames`, what is
promised in :mod:`.session`, who may talk at all in :mod:`.handshake`, every figure in :mod:`.limits`.
"""
