#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What transformers makes of the published chat templates, as digests: published_templates.json.

    python3 tests/golden/text/make_published_templates.py      (needs transformers, jinja2 and ../shared/data/templates)

The templates are their publishers'; committed are their names, the SHA-256 of their bytes, and for each conversation of
tests/oracle/templates.py the first 16 digits of the SHA-256 of the rendered text, or null where the template refuses it. Where
transformers fails over contents in parts or prints a list ("may_join"), heddle may join them, but to nothing else than
what the conversation "parts, joined" gives.
"""

import datetime
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/oracle"))

import templates as oracle  # noqa: E402

TEMPLATES = ROOT.parent / "shared/data/templates"
DIGITS = 16


def digest(data):
    return hashlib.sha256(data).hexdigest()


def joined(chat):
    """The conversation with contents in parts as one string each."""
    return {**chat, "messages": [
        {**m, "content": "\n".join(p["text"] for p in m["content"])} if isinstance(m["content"], list) else m
        for m in chat["messages"]]}


CHATS = {**oracle.CHATS, "parts, joined": joined(oracle.CHATS["parts"])}


def row_of(path):
    source = path.read_text()
    texts = {title: oracle.reference(source, chat) for title, chat in CHATS.items()}
    status, text = texts["parts"]
    return {"sha256": digest(path.read_bytes()),
            "may_join": status == "refused" or "[{'type'" in text or '[{"type"' in text,
            "renders": {title: digest(text.encode())[:DIGITS] if status == "ok" else None
                        for title, (status, text) in texts.items()}}


def main():
    oracle.hf.datetime = oracle.Clock
    files = sorted(TEMPLATES.glob("*.jinja"))
    if not files:
        sys.exit(f"{TEMPLATES} has no templates; put the published ones there")
    now = int(oracle.NOW.replace(tzinfo=datetime.timezone.utc).timestamp() * 1e6)
    rows = {f.name: row_of(f) for f in files}
    out = {"now": now, "special": oracle.SPECIAL, "chats": CHATS, "templates": rows}
    Path(__file__).with_name("published_templates.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")
    refused = sum(r is None for row in rows.values() for r in row["renders"].values())
    print(f"{len(rows)} templates, {len(CHATS)} conversations each; {refused} renderings are refused")


if __name__ == "__main__":
    main()
