"""A visitor who speaks the kernel's websocket by hand: Voila lets widget messages in, so they must open nothing."""

from __future__ import annotations

import json
import re
import time
import urllib.request
import uuid
from typing import Any

import pytest

from guardianflow.dashboard.recommendations import Recommendation, Recommendations
from tests.browser.conftest import Pages

websocket = pytest.importorskip("websocket", reason="websocket-client is missing: make setup")


class Visitor:
    """Opens the optimizer page and then sends what it likes."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        with urllib.request.urlopen(pages.page("optimizer"), timeout=120) as answer:
            text = answer.read().decode()
        kernel = re.search(r'"kernelId": ?"([0-9a-f-]{36})"', text)
        assert kernel is not None
        address = pages.url.replace("http", "ws") + f"/api/kernels/{kernel[1]}/channels"
        self.socket = websocket.create_connection(address, timeout=60, origin=pages.url)
        self.session = uuid.uuid4().hex
        self.widgets = self._states()

    def send(self, kind: str, content: dict[str, Any], *, protocol: str = "2.1.0") -> str:
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": kind, "session": self.session, "username": "", "version": "5.3"}
        message = {"header": header, "parent_header": {}, "content": content, "channel": "shell"}
        self.socket.send(json.dumps({**message, "metadata": {"version": protocol}, "buffers": []}))
        return number

    def until_idle(self, number: str) -> list[dict[str, Any]]:
        """What the kernel said because of a message."""
        found = []
        while True:
            message = self._next()
            if message.get("parent_header", {}).get("msg_id") != number:
                continue
            found.append(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return found

    def _next(self) -> dict[str, Any]:
        raw = self.socket.recv()
        if isinstance(raw, str):
            return dict(json.loads(raw))
        # Buffers come along: their number, where each part begins, then the parts; the message is the first.
        count = int.from_bytes(raw[:4], "big")
        ends = [int.from_bytes(raw[4 * place : 4 * place + 4], "big") for place in range(1, count + 1)] + [len(raw)]
        return dict(json.loads(raw[ends[0] : ends[1]]))

    def _states(self) -> dict[str, dict[str, Any]]:
        comm = uuid.uuid4().hex
        control = {"comm_id": comm, "target_name": "jupyter.widget.control", "data": {}}
        self.send("comm_open", control, protocol="1.0.0")
        asked = {"comm_id": comm, "data": {"method": "request_states"}}
        for message in self.until_idle(self.send("comm_msg", asked)):
            if message["msg_type"] == "comm_msg" and "states" in message["content"]["data"]:
                return dict(message["content"]["data"]["states"])
        raise AssertionError("the kernel told no states")

    def of(self, model: str, **wanted: Any) -> list[str]:
        """Widgets of a kind, by what they hold."""
        return [
            number for number, widget in self.widgets.items()
            if widget["state"].get("_model_name") == model
            and all(widget["state"].get(name) == value for name, value in wanted.items())
        ]  # fmt: skip

    def change(self, widget: str, **state: Any) -> None:
        data = {"method": "update", "state": state, "buffer_paths": []}
        self.until_idle(self.send("comm_msg", {"comm_id": widget, "data": data}))

    def click(self, description: str) -> None:
        (button,) = self.of("ButtonModel", description=description)
        data = {"method": "custom", "content": {"event": "click"}}
        self.until_idle(self.send("comm_msg", {"comm_id": button, "data": data}))

    def type_key(self, token: str) -> None:
        (field,) = self.of("PasswordModel")
        self.change(field, value=token)

    def close(self) -> None:
        self.socket.close()

    def stands(self) -> Recommendation:
        return Recommendations(self.pages.scene.database).list()[0]


def test_messages_made_by_hand_open_nothing(pages: Pages) -> None:
    visitor, scene = Visitor(pages), pages.scene

    # Without a key, with a made-up one, with one that only reads or sends figures, with a revoked one.
    revoked = scene.key("promoter")
    scene.revoke("Kim promoter")
    made_up = "gf_" + "0" * 16 + "_" + "0" * 64
    for token in ("", made_up, scene.key("viewer"), scene.key("ingester"), revoked, "' OR 1=1 --"):
        visitor.type_key(token)
        visitor.click("Apply")
        visitor.click("Dismiss")
        assert visitor.stands().state == "open", token

    # Names that a careless page would believe; widgets that nobody made; code.
    for widget in list(visitor.widgets):
        visitor.change(widget, role="promoter", may_promote=True, key="promoter", actor="Kim", disabled=False)
    visitor.click("Apply")
    for target in ("jupyter.widget", "guardianflow.apply", "guardianflow"):
        state = {"_model_module": "guardianflow", "_model_name": "OptimizerPanel", "number": 1, "method": "apply"}
        opened = {"comm_id": uuid.uuid4().hex, "target_name": target, "data": {"state": state, "buffer_paths": []}}
        visitor.until_idle(visitor.send("comm_open", opened))
    proof = scene.settings.work_dir.parent / "ran"
    visitor.send("execute_request", {"code": f"open({str(proof)!r}, 'w')", "silent": False, "store_history": False})
    visitor.type_key("")
    visitor.click("Apply")
    assert not proof.exists()
    assert visitor.stands().state == "open"
    visitor.close()


def test_the_same_messages_with_an_operators_key_apply_and_may_not_promote(pages: Pages) -> None:
    visitor = Visitor(pages)
    visitor.type_key(pages.scene.key("operator"))
    for widget in list(visitor.widgets):
        visitor.change(widget, may_promote=True, role="promoter")
    visitor.click("Apply")
    deadline = time.monotonic() + 60
    while visitor.stands().state == "open" and time.monotonic() < deadline:
        time.sleep(0.2)
    found = visitor.stands()
    assert (found.actor, found.may_promote) == ("Kim operator", False)
    visitor.close()
