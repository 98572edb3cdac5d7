# SPDX-License-Identifier: Apache-2.0
"""The table of malformed bodies live: each gets its status and names its field, and the next request works."""

import http.client
import json
import pathlib
import unittest

import client

TABLE = pathlib.Path(__file__).with_name("malformed.json")


def body_of(row):
    if "raw" in row:
        text = row["raw"]
    else:
        body = dict(row["body"])
        if body.get("prompt") == "REPEAT":
            body["prompt"] = row["repeat"]["text"] * row["repeat"]["times"]
        text = json.dumps(body)
    return text.replace('"MODEL"', json.dumps(client.model())).encode()


class Malformed(unittest.TestCase):
    def test_table(self):
        rows = json.loads(TABLE.read_text())
        self.assertGreaterEqual(len(rows), 60)
        good = json.dumps({"model": client.model(), "prompt": "hi", "max_tokens": 1}).encode()
        headers = {"Content-Type": "application/json"}
        connection = http.client.HTTPConnection(*client.address(), timeout=60)
        for row in rows:
            with self.subTest(row["name"]):
                connection.request("POST", row["path"], body_of(row), headers)
                answer = connection.getresponse()
                error = json.loads(answer.read())["error"]
                self.assertEqual(answer.status, row.get("status", 400), error)
                self.assertEqual(error["param"], row["param"], error)
                self.assertTrue(error["message"] and error["type"], error)
                connection.request("POST", "/v1/completions", good, headers)
                answer = connection.getresponse()
                answer.read()
                self.assertEqual(answer.status, 200)
        connection.close()
        print(f"{len(rows)} bodies ...", end=" ")


if __name__ == "__main__":
    unittest.main()
