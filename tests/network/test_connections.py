"""The kernel's table of connections is read for who asked whom, behind Services too."""

from tests.network import connections

# a Service in between, no answer, names, and what has no ports
TABLE = """\
ipv4 2 tcp 6 86399 ESTABLISHED src=10.244.0.5 dst=10.96.1.2 sport=40001 dport=80 \
src=10.244.0.7 dst=10.244.0.5 sport=8000 dport=40001 [ASSURED] mark=0 zone=0 use=2
ipv4 2 tcp 6 110 SYN_SENT src=10.244.0.5 dst=203.0.113.7 sport=40002 dport=443 [UNREPLIED] \
src=203.0.113.7 dst=10.55.0.1 sport=443 dport=40002 mark=0 zone=0 use=2
ipv4 2 udp 17 18 src=10.244.0.7 dst=10.55.0.1 sport=56754 dport=53 \
src=10.55.0.1 dst=10.244.0.7 sport=53 dport=56754 mark=0 zone=0 use=2
ipv4 2 icmp 1 29 src=10.244.0.7 dst=10.55.0.1 type=8 code=0 id=1 \
src=10.55.0.1 dst=10.244.0.7 type=0 code=0 id=1 mark=0 zone=0 use=2
"""


def test_a_connection_is_from_who_asked_to_who_answers_in_truth(tmp_path, monkeypatch):
    table = tmp_path / "nf_conntrack"
    table.write_text(TABLE)
    monkeypatch.setattr(connections, "TABLE", table)
    assert connections.connections() == {
        ("10.244.0.5", "10.244.0.7", 8000, "TCP"),
        ("10.244.0.5", "203.0.113.7", 443, "TCP"),
        ("10.244.0.7", "10.55.0.1", 53, "UDP"),
    }
