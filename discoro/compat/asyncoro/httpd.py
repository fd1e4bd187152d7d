"""asyncoro.httpd is not here; importing it says what there is instead."""

from discoro.compat.parts import refuse

refuse(
    "asyncoro.httpd", "'python -m discoro status' shows nodes, servers, computations and coroutines"
)
