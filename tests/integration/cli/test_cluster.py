# SPDX-License-Identifier: Apache-2.0
"""A cluster as its operator sees it: the ranks of every replica on /metrics and in `heddle top`."""
import concurrent.futures
import json
import re
import urllib.request

import test_processes as processes
from test_cli import MODEL, heddle


def ask(url, prompt, n_tokens):
    body = {"model": "demo-model", "prompt": prompt, "max_tokens": n_tokens, "ignore_eos": True}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=processes.WAIT_SECONDS) as answer:
        return json.load(answer)["usage"]["completion_tokens"]


def get(url):
    with urllib.request.urlopen(url, timeout=processes.WAIT_SECONDS) as answer:
        return answer.read().decode()


def busy_ranks(url, name):
    """The ranks with observations in a histogram."""
    return set(re.findall(name + r'_count\{rank="(\d+)"\} [1-9]', get(url + "/metrics")))


class Replicas(processes.OnTerminal):
    def test_each_rank_of_each_has_its_times(self):
        terminal = self.start("serve", MODEL, "--port", "0", "--dp", "2", "--tp", "2", "--threads", "1")
        url = terminal.read_until(r"API at (http://[0-9.:]+)/v1").group(1)
        processes.until(lambda: '"state":"ready"' in get(url + "/readyz"), "both replicas")
        for _ in range(50):  # which replica gets a request is not said; soon both have had some
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                self.assertEqual(set(pool.map(lambda i: ask(url, f"{i} tales", 20), range(8))), {20})
            if len(busy_ranks(url, "heddle_step_seconds")) == 4:
                break
        for name in "heddle_step_seconds", "heddle_collective_seconds":
            self.assertEqual(busy_ranks(url, name), {"0", "1", "2", "3"}, name)
        top = json.loads(heddle("top", url, "--json", "--interval", "0.1").stdout)
        self.assertEqual([r["rank"] for r in top["ranks"]], [0, 1, 2, 3])
        self.assertEqual(top["workers_ready"], 4)


if __name__ == "__main__":
    processes.unittest.main()
