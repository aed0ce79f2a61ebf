"""Sockets that reach this machine alone; what is tried beyond is refused and noted.

The tests install it in their own process, and as ``sitecustomize`` in every Python
process that they start. It is Python's own sockets that it guards: what native code
opens, such as the rendezvous of torch's processes and ray's servers, it does not see.
"""

import contextlib
import ipaddress
import os
import socket

ATTEMPTS = "LMZOO_TEST_ATTEMPTS"  # the file that notes are written to
NAMES = ("localhost", "", None)
OWN = ("8.8.8.8", "2001:4860:4860::8888")  # asked for the way, to learn one's address


class Outward(OSError):
    """Something tried to reach another machine."""


def is_local(host: object) -> bool:
    """Whether ``host`` is this machine: one of its addresses can be bound."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if host in NAMES or host == socket.gethostname():
        return True
    try:
        address = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False  # a name: to look it up is to ask another machine
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def refuse(what: str, host: object) -> None:
    """Note an attempt, and stop it."""
    if file := os.environ.get(ATTEMPTS):
        with contextlib.suppress(OSError), open(file, "a", encoding="utf-8") as notes:
            print(what, host, file=notes)
    raise Outward(f"a test tried to reach {host} ({what})")


def install() -> None:
    """Guard every way that leads out of this process, once."""
    if getattr(socket, "lmzoo_guarded", False):
        return
    for name in ("connect", "connect_ex", "sendto", "sendmsg"):
        setattr(socket.socket, name, _method(name, getattr(socket.socket, name)))
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, _lookup(name, getattr(socket, name)))
    setattr(socket.socket, "listen", _listening(socket.socket.listen))  # noqa: B010
    vars(socket)["lmzoo_guarded"] = True


def _method(name: str, real):
    def call(self: socket.socket, *given, **options):
        address = given[-1] if given else None
        internet = self.family in (socket.AF_INET, socket.AF_INET6)
        if internet and isinstance(address, tuple) and not is_local(address[0]):
            # connecting a datagram socket sends nothing, but what is sent then does
            asks = self.type & socket.SOCK_DGRAM and name.startswith("connect")
            if asks and address[0] in OWN:
                raise Outward(f"no network here: {address[0]}")
            refuse(name, address[0])
        return real(self, *given, **options)

    return call


def _listening(real):
    def listen(self: socket.socket, *given):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            host = self.getsockname()[0]
            if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
                refuse("listen", host)  # others could reach a test
        return real(self, *given)

    return listen


def _lookup(name: str, real):
    def call(host, *given, **options):
        if not is_local(host) and not _is_address(host):
            refuse(name, host)
        return real(host, *given, **options)

    return call


def _is_address(host: object) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(str(host).partition("%")[0])
        return True
    return False


install()
