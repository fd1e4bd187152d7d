from __future__ import annotations

from discoro.node.settings import NodeSettings, ServerSettings


def test_settings_of_a_server_survive_their_way_to_it() -> None:
    settings = ServerSettings(
        name="bob-1",
        node="bob",
        number=1,
        key="00" * 32,
        dest_path="/var/files",
        peers=("alice", "eve:9700"),
        siblings=(9700, 9701),
        last_end="ended by SIGSEGV (signal 11)",
        max_rss=2 << 30,
        max_stall=2.5,
        debug=True,
    )
    text = settings.to_json()
    assert ServerSettings.from_json(text) == settings
    assert "\n" not in text


def test_keys_and_secrets_do_not_show() -> None:
    server = ServerSettings(name="a", node="a", number=1, key="deadbeef", dest_path="/")
    node = NodeSettings(name="a", servers=1, secret="deadbeef", secret_source="-s")
    assert "deadbeef" not in repr(server) + repr(node)
    assert node.server_name(2) == "a-2"
