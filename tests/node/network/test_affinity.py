"""Which endpoint a client had."""

from headrace.node.network.affinity import MAX_REMEMBERED, Affinity


def test_it_is_remembered_until_it_has_not_been_used_for_a_while():
    held = Affinity()
    assert held.get("ns/a", "1.1.1.1", 0) == ""
    held.put("ns/a", "1.1.1.1", "10.0.0.1", now=0, seconds=10)
    assert held.get("ns/a", "1.1.1.1", 9.9) == "10.0.0.1"
    assert held.get("ns/a", "1.1.1.1", 10) == ""
    assert held.get("ns/b", "1.1.1.1", 5) == ""


def test_the_number_of_clients_is_bounded():
    held = Affinity()
    for number in range(MAX_REMEMBERED + 1):
        held.put("ns/a", str(number), "ip", now=0, seconds=10)
    assert held.get("ns/a", "0", 1) == ""
    assert held.get("ns/a", "1", 1) == "ip"
