"""pycos.dispycos is not here; importing it says what there is instead."""

from discoro.compat.parts import refuse

refuse(
    "pycos.dispycos",
    "Its scheduler does not exist: set a discoro.Computation up at the servers that peer_status tells of, and run it there",
)
