"""Small ports, right and wrong, of the kinds that strangers bring: each shows one thing.

What the suite must say of each is in tests/parity/test_ports.py.
"""
