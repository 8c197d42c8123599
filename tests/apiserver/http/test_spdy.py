"""The SPDY codec: what a Go client sends is understood, what nobody should send is refused and costs little."""

import random
import struct
import tracemalloc
import zlib

import pytest

from headrace.apiserver.http import spdy
from headrace.apiserver.http.spdy import Codec, Data, GoneAway, Opened, Pinged, Reset, SpdyError


class Peer:
    """A client's side, written apart from the codec."""

    def __init__(self):
        self.deflate = zlib.compressobj(zdict=spdy.DICTIONARY)
        self.inflate = zlib.decompressobj(zdict=spdy.DICTIONARY)

    @staticmethod
    def control(kind, body, flags=0, version=3):
        return struct.pack(">HHI", 0x8000 | version, kind, flags << 24 | len(body)) + body

    @staticmethod
    def data(stream, payload=b"", flags=0, length=None):
        return struct.pack(">II", stream, flags << 24 | (len(payload) if length is None else length)) + payload

    def pack(self, plain):
        return self.deflate.compress(plain) + self.deflate.flush(zlib.Z_SYNC_FLUSH)

    def block(self, headers):
        plain = struct.pack(">I", len(headers))
        for name, value in headers.items():
            plain += struct.pack(">I", len(name)) + name.encode() + struct.pack(">I", len(value)) + value.encode()
        return self.pack(plain)

    def open(self, stream, headers, flags=0):
        return self.control(1, struct.pack(">IIH", stream, 0, 0) + self.block(headers), flags)


def test_the_dictionary_is_the_protocols():
    assert len(spdy.DICTIONARY) == 1423
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2


def test_streams_share_their_compression():
    codec, peer = Codec(), Peer()
    first = {"streamtype": "error", "port": "8080", "requestid": "0"}
    assert codec.receive(peer.open(1, first)) == [Opened(1, first, end=False)]
    named = {"Streamtype": "data", "Port": "8080", "Requestid": "0"}
    assert codec.receive(peer.open(3, named, flags=1)) == [Opened(3, {**first, "streamtype": "data"}, end=True)]


def test_frames_may_come_in_any_pieces():
    peer = Peer()
    text = (
        peer.open(1, {"port": "80"})
        + peer.data(1, b"hello ")
        + peer.control(6, b"\0\0\0\7")
        + peer.data(1, b"world", flags=1)
        + peer.control(3, struct.pack(">II", 1, 5))
        + peer.control(7, bytes(8))
    )
    for size in (1, 2, 7, 1000):
        codec, events = Codec(), []
        for at in range(0, len(text), size):
            events += codec.receive(text[at : at + size])
        assert b"".join(e.payload for e in events if isinstance(e, Data)) == b"hello world"
        assert [e.end for e in events if isinstance(e, Data)][-1]
        assert [e for e in events if not isinstance(e, Data)] == [
            Opened(1, {"port": "80"}, end=False),
            Pinged(7),
            Reset(1),
            GoneAway(),
        ]


def test_what_it_sends():
    codec, peer = Codec(), Peer()
    for stream in (1, 3):
        frame = codec.reply(stream)
        assert struct.unpack(">HHII", frame[:12]) == (0x8003, 2, len(frame) - 8, stream)
        assert peer.inflate.decompress(frame[12:]) == bytes(4)
    assert codec.data(5, b"abc", end=True) == b"\0\0\0\5\1\0\0\3abc"
    assert codec.data(5, b"abc") == b"\0\0\0\5\0\0\0\3abc"
    assert codec.ping(7) == b"\x80\3\0\6\0\0\0\4\0\0\0\7"
    assert codec.reset(5) == b"\x80\3\0\3\0\0\0\x08\0\0\0\5\0\0\0\5"


def test_settings_windows_and_unknown_frames_are_ignored():
    codec, peer = Codec(), Peer()
    for kind in (4, 9, 200):
        assert codec.receive(peer.control(kind, bytes(8))) == []
    assert codec.receive(peer.data(1, b"x")) == [Data(1, b"x", end=False)]


def syn(plain):
    return Peer.control(1, struct.pack(">IIH", 1, 0, 0) + Peer().pack(plain))


@pytest.mark.parametrize(
    "hostile",
    [
        Peer.control(1, b"", version=2),
        Peer.control(1, b"short"),
        Peer.control(3, b"\0\0\0\1"),
        Peer.control(6, b""),
        Peer.control(1, struct.pack(">IIH", 0, 0, 0) + Peer().block({})),
        Peer.control(1, struct.pack(">IIH", 2, 0, 0) + Peer().block({})),
        Peer.control(1, struct.pack(">IIH", 1, 0, 0) + b"no zlib at all"),
        Peer.control(1, struct.pack(">IIH", 1, 0, 0) + zlib.compress(bytes(4))),
        struct.pack(">HHI", 0x8003, 1, spdy.MAX_CONTROL + 1),
        struct.pack(">II", 0, 10),
        syn(b""),
        syn(struct.pack(">I", 1)),
        syn(struct.pack(">I", 0xFFFFFFFF)),
        syn(struct.pack(">II", 1, 0xFFFFFFFF) + b"x"),
        syn(struct.pack(">II", 1, 1) + b"x" + struct.pack(">I", 5) + b"y"),
        syn(bytes(spdy.MAX_HEADERS + 1)),
    ],
)
def test_what_breaks_the_protocol_is_an_error(hostile):
    with pytest.raises(SpdyError):
        Codec().receive(hostile)


def test_a_stream_is_opened_once_and_in_order():
    codec, peer = Codec(), Peer()
    codec.receive(peer.open(5, {}))
    for stream in (5, 3):
        with pytest.raises(SpdyError):
            codec.receive(peer.open(stream, {}))


def test_a_bomb_of_headers_costs_no_memory():
    bomb = syn(bytes(24 << 20))
    assert len(bomb) < spdy.MAX_CONTROL
    tracemalloc.start()
    try:
        with pytest.raises(SpdyError, match="more than"):
            Codec().receive(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_frame_that_announces_much_is_not_gathered():
    codec, peer = Codec(), Peer()
    codec.receive(peer.data(1, length=spdy.MAX_DATA))
    for _ in range(64):
        assert codec.receive(bytes(1 << 16)) == [Data(1, bytes(1 << 16), end=False)]
    assert len(codec._buffer) == 0


def test_noise_is_an_error_or_nothing_but_never_anything_else():
    noise = random.Random(7)
    for _ in range(500):
        codec = Codec()
        start = noise.choice([b"", b"\x80\3\0\1", b"\x80\3\0\x08\0\0\0\x20", b"\x80\3\0\3\0\0\0\x08", b"\0\0\0\1"])
        try:
            for _ in range(3):
                codec.receive(start + noise.randbytes(noise.randrange(64)))
        except SpdyError:
            continue
        assert len(codec._buffer) <= spdy.MAX_CONTROL + 8
