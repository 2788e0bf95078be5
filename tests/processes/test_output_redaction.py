"""Secrets in what a script prints are masked; everything else stays byte for byte, and quickly."""

from __future__ import annotations

import base64
import json
import random
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardianflow.processes.supervision.redaction import Redactor, secret_values

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF_-123"
NAMED = [
    ("API_KEY=abc123 loss=0.5", "API_KEY=*** loss=0.5"),
    ("export DB_PASSWORD=a&b;c loss=1", "export DB_PASSWORD=*** loss=1"),
    ("password: correct horse battery", "password: ***"),
    ("  db_password:   p w\n", "  db_password:   *** w\n"),
    ('{"token": "a b\\"c", "x": 1}', '{"token": "***", "x": 1}'),
    ('{"token":12345678,"loss":0.5}', '{"token":***,"loss":0.5}'),
    ("{'client_secret': 'x, y'}", "{'client_secret': '***'}"),
    ('\\"token\\": \\"abc\\", 3', '\\"token\\": \\"***\\", 3'),
    ('"password": "abc\\\\", "l": 3', '"password": "***", "l": 3'),
    ('password="""a"b"""', 'password="""***"""'),
    ("--api-key abc --lr 3", "--api-key *** --lr 3"),
    ("--api-key=abc --lr 3", "--api-key=*** --lr 3"),
    ("['--password', 'a b', '--lr', '3']", "['--password', '***', '--lr', '3']"),
    ("Authorization: Bearer abc.def", "Authorization: ***"),
    ("-H 'Authorization: Basic YTpi' x", "-H 'Authorization: ***' x"),
    ("Cookie: a=b; c=d\nnext", "Cookie: ***\nnext"),
    ("aws_secret_access_key = AbC/+d", "aws_secret_access_key = ***"),
    ('os.environ["API_KEY"] = "zzz"', 'os.environ["API_KEY"] = "***"'),
    ("API key: xx", "API key: ***"),
    ("hfToken: abcdef", "hfToken: ***"),
    ("비밀 password=한글비번 끝", "비밀 password=*** 끝"),
    ('credentials: {"user": "x", "pin": "y"}', 'credentials: ***"}'),
    ("https://h/p?token=abc&user=b&sig=ss#x", "https://h/p?token=***&user=b&sig=***"),
]
SHAPES = [
    "AKIAABCDEFGHIJKLMNOP",
    "ghp_" + "a1" * 18,
    "github_pat_" + "A1_" * 20,
    "hf_" + "aB" * 17,
    "sk-proj-1234567890abcdefghijkl",
    "xoxb-1234567890-abcdef",
    JWT,
    "AIza" + "x" * 35,
]
PLAIN = [
    "tokenizer: fast max_tokens: 5 tokens/s: 30 num_tokens=7",
    "loss per token: 0.512, token: 31",
    "eos_token: </s> pad_token=[PAD] bos_token: 'x'",
    "keypoints: 17 key: 3 monkey=4 keyboard: us",
    "password=None token=null secret: false",
    "Enter password: ",
    "PWD=/home/user",
    "https://example.org/a:b?page=2&size=3",
    "mail me at a@b.org, see http://b.org/x",
    "task-12345678901234567890abc risk-aware-12345678901234567890",
    "def login(password: str, token: Optional) -> None",
    "std::secret::x",
    "loss: 0.25 - val_loss: 0.5 | 12/100 [00:01<00:02, 3.1it/s]",
    "password=***",
]


@pytest.mark.parametrize(("text", "expected"), NAMED)
def test_values_after_secret_names_are_masked(text: str, expected: str) -> None:
    assert Redactor().text(text) == expected
    assert Redactor().text(expected) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_well_known_tokens_are_masked_anywhere(shape: str) -> None:
    assert Redactor().text(f"got {shape}, done") == "got ***, done"


@pytest.mark.parametrize("text", PLAIN)
def test_what_only_looks_alike_stays(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgres://u:p@w/x@h/db next", "postgres://u:***@h/db next"),
        ("connect to 'mysql+x://u:geheim@h/d', 'a@b'", "connect to 'mysql+x://u:***@h/d', 'a@b'"),
        ("redis://:geheim@h:6379/0", "redis://:***@h:6379/0"),
        ("http://h:80/a b@c", "http://h:80/a b@c"),
    ],
)
def test_passwords_in_urls_are_masked(url: str, expected: str) -> None:
    assert Redactor().text(url) == expected


def test_private_keys_are_masked_to_their_end() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd==\n-----END RSA PRIVATE KEY-----"
    masked = "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----"
    assert Redactor().text(f"a\n{key}\nb\n{key}\nc") == f"a\n{masked}\nb\n{masked}\nc"
    assert Redactor().text("x -----BEGIN PRIVATE KEY-----\nabc\ndef") == "x -----BEGIN PRIVATE KEY-----***"


def test_a_key_that_spans_chunks_is_masked_and_what_follows_is_not() -> None:
    stream = Redactor().stream()
    chunks = [b"a\n-----BEGIN PRIVATE KEY-----\nAAA\n", b"BBB\n", b"CCC\n-----END PRIVATE KEY-----\nloss: 1\n", b"x\n"]
    out = b"".join(map(stream.data, chunks))
    assert out == b"a\n-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----\nloss: 1\nx\n"


def test_a_key_without_an_end_does_not_take_the_whole_log() -> None:
    stream = Redactor().stream()
    out = stream.data(b"the header -----BEGIN PRIVATE KEY----- is missing\n")
    out += b"".join(stream.data(b"line %06d\n" % number) for number in range(20_000))
    assert out.endswith(b"line 019999\n")
    assert b"line 000100" not in out


def test_given_secrets_are_masked_in_every_common_form() -> None:
    secret = '비밀 p@ss/w+rd"x'
    redactor = Redactor([secret])
    for form in (secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]):
        assert redactor.text(f"a {form} b") == "a *** b"
    for before in ("", "u:", "us:"):
        encoded = base64.b64encode((before + secret + "zzz").encode()).decode()
        assert encoded[6:-8] not in redactor.text(f"x {encoded} y")
        assert "***" in redactor.text(f"x {encoded} y")


def test_short_secrets_and_longer_ones_that_contain_others() -> None:
    redactor = Redactor(["12345", "geheim", "geheim-lang"])
    assert redactor.text("12345 geheim-lang geheim") == "12345 *** ***"


def test_a_secret_of_several_lines_is_found_line_by_line() -> None:
    redactor = Redactor(["first line of it\nsecond line of it"])
    assert redactor.text("1: second line of it\n2: first line of it") == "1: ***\n2: ***"


def test_invalid_utf8_is_kept_byte_for_byte() -> None:
    data = bytes(range(256)) * 3 + b"\xff password=\xfe\xc3(\x85\xa0x \xed\xa0\x80\xff\r\n"
    expected = bytes(range(256)) * 3 + b"\xff password=*** \xed\xa0\x80\xff\r\n"
    assert Redactor().data(data) == expected
    assert Redactor(["\udcff\udcfe-geheim"]).data(b"a \xff\xfe-geheim b") == b"a *** b"


@given(st.binary(max_size=200))
def test_bytes_without_secrets_come_back_as_they_are(data: bytes) -> None:
    text = data.replace(b":", b"").replace(b"=", b"")
    assert Redactor().data(text) == text


WORDS = st.sampled_from(
    ["password", "token", '"', "'", "=", ": ", " ", "\n", "\\", "--api-key", "://", "u:", "@", "abc", "Bearer ",
     "eyJ", "{", "}", "-----BEGIN PRIVATE KEY-----", "-----END ", "?", "&", "sig=", "***", "한", "1.5", "secret", ",",
     "geheim-9"]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(st.lists(WORDS, max_size=25).map("".join))
def test_whatever_stands_around_a_given_secret_it_never_remains(text: str) -> None:
    assert "geheim-9" not in Redactor(["geheim-9"]).text(text)


@pytest.mark.parametrize(
    "unit",
    ["a", "key=", "api_key=", "eyJ", "eyJaaaaaaaaa.", "token", "token ", "token=\n", 'token="', "token='\\", "://a:",
     "x://a:b@ ", "-----BEGIN PRIVATE KEY-----\n", " sk-aaaaaaaa", "github_pat_", "secret={", "password: ", "-", " ",
     "authorization:", 'cookie="', "&pwd=", "signature=", "a://", "@", "\\", '"', "api key "],
)  # fmt: skip
def test_a_megabyte_of_anything_takes_no_catastrophic_time(unit: str) -> None:
    data = (unit * (1_000_000 // len(unit) + 1)).encode()
    began = time.process_time()
    Redactor(["geheim-x"]).data(data)
    Redactor().data(b'secret="' + data)
    assert time.process_time() - began < 10  # a second on a slow machine


def test_it_keeps_up_with_realistic_output() -> None:
    pick = random.Random(0)
    lines = [
        f"Epoch {n % 9}: {n % 100:3d}%|###   | {n}/20000 [00:0{n % 10}<00:10, 53.1it/s, loss={pick.random():.4f}]\n"
        for n in range(20_000)
    ]
    data = "".join(lines).encode()
    began = time.process_time()
    assert Redactor(["geheim-123"]).data(data) is data
    assert len(data) / 1e6 / (time.process_time() - began) > 8  # measured: 70 MB/s


def test_secret_values_come_from_names_and_urls(tmp_path: Path) -> None:
    environment = {
        "HF_TOKEN": "hf_abcdef",
        "SHORT_TOKEN": "abc",
        "DATABASE_URL": "postgres://u:geheim99@h/db",
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path),
        "TOKENIZERS_PARALLELISM": "false-or-so",
        "HOME": "/home/user",
        "SAME_TOKEN": "hf_abcdef",
    }
    assert secret_values(environment) == ("hf_abcdef", "geheim99")
