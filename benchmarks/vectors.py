"""URLs that try to lead a request to our own network, in every spelling that we know.

PORT stands for the port of whatever listens there. A vector's `answers` are what its names resolve to; public.test is
a public site beside it.
"""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import product
from typing import NamedTuple

PUBLIC = "93.184.215.14"


def _words(text: str) -> list[str]:
    return text.split()


PRIVATE_V4 = _words("""
0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.254 127.0.0.1 127.255.255.254
169.254.0.1 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1
192.52.193.1 192.88.99.1 192.168.0.1 192.168.255.255 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1
224.0.0.1 239.255.255.250 240.0.0.1 255.255.255.255 168.63.129.16
""")
PRIVATE_V6 = _words("""
:: ::1 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:169.254.169.254 ::ffff:0:127.0.0.1
64:ff9b::169.254.169.254 64:ff9b::10.0.0.1 64:ff9b:1::1 100::1 100:0:0:1::1 2001::1
2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:a9fe:a9fe::1 2002:7f00:1::1
2002:a00:1::1 2620:4f:8000::1 3ffe::1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fdff::1 fe80::1 febf::1 fec0::1
feff::1 ff02::1 ff0e::1
""")
TARGETS = ("127.0.0.1", "169.254.169.254", "10.0.0.1", "192.168.1.1")

CIRCLED = str.maketrans("0123456789", "⓪①②③④⑤⑥⑦⑧⑨")
FULLWIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

# Other ways to write an IPv4 address: by its text, its number and its four bytes.
SPELLINGS: list[Callable[[str, int, bytes], str]] = [
    lambda _, number, __: f"{number}",
    lambda _, number, __: f"{number:#x}",
    lambda _, number, __: f"{number:#X}",
    lambda _, number, __: f"0{number:o}",
    lambda _, number, __: f"{number + 2**32}",  # overflows in some parsers
    lambda _, __, b: ".".join(f"{part:#x}" for part in b),
    lambda _, __, b: ".".join(f"{part:#04X}" for part in b),
    lambda _, __, b: ".".join(f"0{part:o}" for part in b),
    lambda _, __, b: ".".join(f"{part:04o}" for part in b),
    lambda _, __, b: ".".join(f"{part:03d}" for part in b),
    lambda _, __, b: f"{b[0]:#x}.{b[1]}.0{b[2]:o}.{b[3]}",
    lambda _, __, b: f"{b[0]}.{int.from_bytes(b[1:])}",
    lambda _, __, b: f"{b[0]}.{b[1]}.{int.from_bytes(b[2:])}",
    lambda _, __, b: f"{b[0]:#x}.{int.from_bytes(b[1:]):#x}",
    lambda _, __, b: ".".join(f"{part + 256}" for part in b),
    lambda text, _, __: f"{text}.",
    lambda text, _, __: f"{text}..",
    lambda text, _, __: text.replace(".", "。"),
    lambda text, _, __: text.replace(".", "．"),
    lambda text, _, __: text.replace(".", "｡"),
    lambda text, _, __: text.replace(".", "․"),
    lambda text, _, __: text.replace(".", "%2e"),
    lambda text, _, __: text.translate(CIRCLED),
    lambda text, _, __: text.translate(FULLWIDTH),
    lambda text, _, __: text.translate(SUPERSCRIPT),
    lambda text, _, __: "".join(f"%{ord(sign):02x}" for sign in text),
    lambda text, _, __: f"{text}%00.public.test",
    lambda text, _, __: f"\u200b{text}",
    lambda text, _, __: f"[{text}]",
]
# IPv6 addresses that stand for an IPv4 address, or hold one.
EMBEDDED: list[Callable[[str, int], str]] = [
    lambda text, _: f"::ffff:{text}",
    lambda text, _: f"::FFFF:{text}",
    lambda text, _: f"0:0:0:0:0:ffff:{text}",
    lambda _, number: f"::ffff:{number >> 16:x}:{number & 0xFFFF:x}",
    lambda _, number: IPv6Address(0xFFFF << 32 | number).exploded,
    lambda text, _: f"::{text}",
    lambda text, _: f"::ffff:0:{text}",
    lambda text, _: f"64:ff9b::{text}",
    lambda text, _: f"64:ff9b:1::{text}",
    lambda _, number: f"2002:{number >> 16:x}:{number & 0xFFFF:x}::",
    lambda _, number: f"2001:0:4136:e378:8000:63bf:{~number >> 16 & 0xFFFF:x}:{~number & 0xFFFF:x}",
    lambda text, _: f"fe80::5efe:{text}",
]

OTHERS = {
    "name": """
        http://localhost:PORT/ http://LOCALHOST:PORT/ http://localhost.:PORT/ http://a.localhost:PORT/
        HTTP://LocalHost:PORT/ http://ⓛocalhost:PORT/ http://localhost。:PORT/ https://localhost:PORT/
    """,
    "split": r"""
        http://127.0.0.1:PORT#@public.test/ http://127.0.0.1:PORT?@public.test/ http://127.0.0.1:PORT/@public.test
        http://127.0.0.1:PORT\@public.test/ http://public.test\@127.0.0.1:PORT/ http://public.test#@127.0.0.1:PORT/
        http://public.test?@127.0.0.1:PORT/ http://127.0.0.1:PORT;public.test/ http://127.0.0.1\.public.test:PORT/
        http:\\127.0.0.1:PORT\ http:/\127.0.0.1:PORT/ http:///127.0.0.1:PORT/ http:127.0.0.1:PORT/ http:/127.0.0.1:PORT/
        http://127.0.0.1:PORT%23@public.test/ http://127.0.0.1:PORT%2f@public.test/ http://127.0.0.1%2f:PORT/
        http://public.test,127.0.0.1:PORT/ http://127.0.0.1:PORT,public.test/ http://127.0.0.1:PORT&public.test/
        http://127.0.0.1／:PORT/ http://public.test＃@127.0.0.1:PORT/ http://127.0.0.1：PORT/ http://127.0.0.1＠public.test/
        http://[::1]public.test:PORT/ http://public.test[::1]:PORT/ http://[::1]:PORT:80/ http://127.0.0.1:80:PORT/
        //127.0.0.1:PORT/ ///127.0.0.1:PORT/ 127.0.0.1:PORT http://[[::1]]:PORT/ http://[::1:PORT/ http://::1:PORT/
    """,
    "userinfo": """
        http://user@127.0.0.1:PORT/ http://user:word@127.0.0.1:PORT/ http://:word@127.0.0.1:PORT/ http://@127.0.0.1:PORT/
        http://public.test@127.0.0.1:PORT/ http://public.test:80@127.0.0.1:PORT/ http://a@b@127.0.0.1:PORT/
        http://127.0.0.1:PORT@public.test/ http://user@public.test/ http://public.test%40127.0.0.1:PORT/
        http://public.test%00@127.0.0.1:PORT/ https://a:b@[::1]:PORT/
    """,
    "scheme": """
        file:///etc/passwd file://127.0.0.1/etc/passwd ftp://127.0.0.1:PORT/ gopher://127.0.0.1:PORT/_GET%20/
        dict://127.0.0.1:PORT/stat ldap://127.0.0.1:PORT/ tftp://127.0.0.1:PORT/ jar:http://127.0.0.1:PORT!/ ws://127.0.0.1:PORT/
        data:image/png;base64,AAAA javascript:alert(1) s3://127.0.0.1:PORT/a view-source:http://127.0.0.1:PORT/
        netdoc:///etc/passwd http+unix://%2fvar%2frun%2fdocker.sock/ unix:///var/run/docker.sock url:http://127.0.0.1:PORT/
        HTTP://127.0.0.1:PORT/ HtTpS://127.0.0.1:PORT/ http::PORT httpx://127.0.0.1:PORT/ : http: http:// https://
    """,
    "zone": """
        http://[::1%25lo]:PORT/ http://[::1%lo]:PORT/ http://[fe80::1%25eth0]:PORT/ http://[fe80::1%251]:PORT/
        http://[::1%25]:PORT/ http://[::ffff:127.0.0.1%25lo]:PORT/ http://[v1.::1]:PORT/ http://[vF.127.0.0.1]:PORT/
        http://[0:0:0:0:0:0:0:1]:PORT/ http://[0000::0001]:PORT/ http://[::01]:PORT/ http://[::]:PORT/ http://[]:PORT/
    """,
    "port": """
        http://public.test:22/ http://public.test:25/ http://public.test:2375/ http://public.test:5432/
        http://public.test:6379/ http://public.test:9200/ http://public.test:11211/ http://public.test:0/
        http://public.test:65536/ http://public.test:-80/ http://public.test:80a/ http://public.test:８０/
        http://public.test:%38%30/ http://127.0.0.1:0PORT/ http://127.0.0.1:+PORT/ http://public.test:/
    """,
    "host": """
        http://pub%6cic.test/ http://a..b:PORT/ http://.:PORT/ http://..:PORT/ http://.public.test/ http://pu!blic.test/
        http://pub*lic.test/ http://<public.test>/ http://"public.test"/ http://$(id).test/ http://{127.0.0.1}:PORT/
        http://0x:PORT/ http://0x.0x.0x.0x:PORT/ http://1.2.3.4.5:PORT/ http://127.0.0.1.0x7f:PORT/ http://xn--:PORT/
        http://xn--0:PORT/ http://-:PORT/ http://_:PORT/ http://127.0.0.1-:PORT/ http://127.0.0.1_:PORT/
    """,
}
# With white space and control characters in them.
CONTROLS = [
    *("http://127.0.0.1:PORT/\r\nHost: public.test", "http://127.0.0.1\r\n:PORT/", "http://127.0.0.1:PORT/a\nb"),
    *(
        "http://public.test/ HTTP/1.1\r\nX: 1",
        "http://127.0.0.1\t:PORT/",
        "http://127.0.0.1:PO\tRT/",
        "\thttp://127.0.0.1:PORT/",
    ),
    *(" http://127.0.0.1:PORT/", "http://127.0.0.1:PORT/ ", "ht\ntp://127.0.0.1:PORT/", "http:/\r/127.0.0.1:PORT/"),
    *(
        "http://127.0.0.1\x00.public.test:PORT/",
        "http://127.0.0.1\x0b:PORT/",
        "http://127.0.0.1 :PORT/",
        "\x00http://127.0.0.1:PORT/",
    ),
    *(
        "http://127.0.0.1\u00a0:PORT/",
        "http://127.0.0.1\u2028:PORT/",
        "http://127.0.0.1\u0085:PORT/",
        "http://\u00ad127.0.0.1:PORT/",
    ),
    *("http://127.0.0.1\x7f:PORT/", "http://127.0.0.1\x1b[0m:PORT/", "", "http://127.0.0.1\ud800:PORT/"),
]


class Vector(NamedTuple):
    """A URL, of a kind, and what the name attack.test resolves to while it is tried."""

    kind: str
    url: str
    answers: tuple[str, ...] = ()


def vectors(port: int) -> list[Vector]:
    """Every vector, none twice, for something that listens on this port."""
    unique = dict.fromkeys(vector._replace(url=vector.url.replace("PORT", str(port))) for vector in _all())
    return list(unique)


def _all() -> Iterator[Vector]:
    for address in (*PRIVATE_V4, *PRIVATE_V6):
        yield Vector("literal", _url(address))
        yield Vector("name of", "http://attack.test:PORT/", (address,))
    for address in (*TARGETS, "::1", "::ffff:127.0.0.1", "fe80::1%lo", "fe80::1%1"):
        yield Vector("mixed", "http://attack.test:PORT/", (PUBLIC, address))
        yield Vector("mixed", "https://attack.test:PORT/", (address, PUBLIC))
    for text, spell in product(TARGETS, SPELLINGS):
        number = int(IPv4Address(text))
        yield Vector("spelling", f"http://{spell(text, number, number.to_bytes(4))}:PORT/")
    for text, embed in product(TARGETS, EMBEDDED):
        address = embed(text, int(IPv4Address(text)))
        yield Vector("embedded", _url(address))
        yield Vector("name of", "http://attack.test:PORT/", (address,))
    for kind, urls in OTHERS.items():
        yield from (Vector(kind, url) for url in urls.split())
    yield from (Vector("control", url) for url in CONTROLS)


def _url(address: str) -> str:
    return f"http://[{address}]:PORT/" if ":" in address else f"http://{address}:PORT/"
