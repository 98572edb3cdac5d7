# SPDX-License-Identifier: Apache-2.0
"""The command line as a person and a script meet it: exit codes, messages, --json, ids in and out."""
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
BIN = os.environ.get("HEDDLE_BIN", os.path.join(ROOT, "build", "release", "bin"))
MODEL = os.path.join(ROOT, "deploy", "demo-model")
GOLDENS = os.path.join(ROOT, "tests", "golden", "models")
COMMANDS = ["serve", "run", "generate", "inspect", "logits", "perplexity", "tokenize", "template", "bench", "replay", "matrix", "top", "cluster", "doctor", "version"]


def heddle(*args, stdin=None):
    return subprocess.run([os.path.join(BIN, "heddle"), *args], input=stdin, capture_output=True, text=True, timeout=120)


class Help(unittest.TestCase):
    def test_top_level_lists_every_command(self):
        done = heddle("--help")
        self.assertEqual(done.returncode, 0)
        for name in COMMANDS:
            self.assertIn(f"  {name} ", done.stdout)

    def test_each_command_teaches(self):
        for name in COMMANDS:
            done = heddle(name, "--help")
            self.assertEqual(done.returncode, 0, name)
            self.assertGreater(len(done.stdout), 80, name)
            self.assertLess(max(map(len, done.stdout.splitlines())), 101, name)

    def test_unknown_command_suggests(self):
        done = heddle("sevre")
        self.assertEqual(done.returncode, 2)
        self.assertIn('did you mean "serve"', done.stderr)

    def test_no_command_is_usage(self):
        self.assertEqual(heddle().returncode, 2)


class Flags(unittest.TestCase):
    def test_unknown_flag_suggests(self):
        done = heddle("serve", MODEL, "--prot", "8080")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--port", done.stderr)

    def test_spelling_of_vllm_is_taken(self):
        done = heddle("inspect", MODEL, "--tensor-parallel-size", "2", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len(json.loads(done.stdout)["ranks"]), 2)

    def test_foreign_flag_is_refused_with_the_equivalent(self):
        done = heddle("serve", MODEL, "--gpu-memory-utilization", "0.9")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--kv-bytes", done.stderr)

    def test_spellings_of_vllm_serve_are_taken_or_refused_with_advice(self):
        taken = "--max-model-len", "--max-num-seqs", "--max-num-batched-tokens", "--quantization", "--enable-prefix-caching"
        shown = heddle("serve", "--help").stdout
        for option in taken:
            value = [] if option == "--enable-prefix-caching" else ["auto" if option == "--quantization" else "64"]
            done = heddle("serve", MODEL, option, *value, "--port", "70000")  # the one that is refused
            self.assertEqual(done.returncode, 2, option)
            self.assertIn("65535", done.stderr, option)
        for option, advice in (
            ("--no-enable-prefix-caching", "kv.prefix_cache"), ("--enable-chunked-prefill", "--chunk"),
            ("--cache-type-k", "--kv-type"), ("--seed", "request"), ("--tokenizer", "MODEL"), ("--load-format", "MODEL"),
            ("--gpu-memory-utilization", "--kv-bytes"), ("--dtype", "--weights"), ("--api-key", "--api-key-file"),
            ("--chat-template", "chat_template.jinja"), ("--speculative-config", "--speculate"), ("--enable-expert-parallel", "--ep"), ("--swap-space", "leave it out"),
        ):
            for args in [option, "1"], [option + "=1"]:
                done = heddle("serve", MODEL, *args)
                self.assertEqual(done.returncode, 2, option)
                self.assertIn(f"{option} is not an option of heddle; ", done.stderr)
                self.assertIn(advice, done.stderr)
            self.assertNotIn(option + " ", shown)
        self.assertIn("q4", shown)

    def test_value_out_of_range(self):
        done = heddle("serve", MODEL, "--port", "70000")
        self.assertEqual(done.returncode, 2)
        self.assertIn("65535", done.stderr)


class Perplexity(unittest.TestCase):
    TEXT = "what is 3 + 4 ? what is 12 - 5 ? " * 6

    def ask(self, *args, text=TEXT):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
            f.write(text)
            f.flush()
            return heddle("perplexity", MODEL, f.name, "--json", *args)

    def test_is_what_the_logits_say(self):
        got = json.loads(self.ask().stdout)
        ids = [int(v) for v in heddle("tokenize", MODEL, "--special", stdin=self.TEXT).stdout.split()]
        with tempfile.TemporaryDirectory() as folder:
            ids_file, out = os.path.join(folder, "ids"), os.path.join(folder, "out.npy")
            with open(ids_file, "w", encoding="utf-8") as f:
                f.write(" ".join(map(str, ids)))
            self.assertEqual(heddle("logits", MODEL, "--ids-file", ids_file, "--out", out).returncode, 0)
            with open(out, "rb") as f:
                data = f.read()
        vocab = int(data[:data.index(b"\n")].split(b",")[-2].strip(b" )"))
        rows = memoryview(data[data.index(b"\n") + 1:]).cast("f")
        total = 0.0
        for i, token in enumerate(ids[1:]):
            row = rows[i * vocab:(i + 1) * vocab]
            top = max(row)
            total += row[token] - top - math.log(sum(math.exp(v - top) for v in row))
        self.assertEqual(got["tokens_scored"], len(ids) - 1)
        # The worker's log-probabilities are f32.
        self.assertAlmostEqual(got["nll_per_token"], -total / (len(ids) - 1), delta=1e-5)

    def test_same_on_every_layout(self):
        one = self.ask("--context", "20")
        self.assertEqual(one.returncode, 0, one.stderr)
        self.assertGreater(json.loads(one.stdout)["windows"], 2)
        self.assertEqual(one.stdout, self.ask("--context", "20", "--tp", "2").stdout)

    def test_what_cannot_be_scored(self):
        for done in self.ask(text=""), self.ask("--context", "1000000"), heddle("perplexity", MODEL, "/nonexistent"):
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stdout, "")
            self.assertGreaterEqual(done.stderr.count(";"), 1, done.stderr)


class Inspect(unittest.TestCase):
    def test_shares_add_up(self):
        one = json.loads(heddle("inspect", MODEL, "--json").stdout)
        self.assertEqual(one["architecture"], "Qwen3MoeForCausalLM")
        self.assertLess(one["params_active"], one["params_total"])
        self.assertEqual(one["params_active_without_embedding"], one["params_active"] - one["params_embedding"])
        self.assertEqual(one["params_published_total"], one["params_total"])
        four = json.loads(heddle("inspect", MODEL, "--tp", "4", "--json").stdout)
        self.assertEqual([r["rank"] for r in four["ranks"]], [0, 1, 2, 3])
        for rank in four["ranks"]:
            self.assertLess(rank["weight_bytes"], one["ranks"][0]["weight_bytes"])

    def test_layers_for_further_tokens_are_counted_apart(self):
        with open(os.path.join(GOLDENS, "qwen35.json"), encoding="utf-8") as f:
            config = json.load(f)
        said = {}
        for n in (0, 1):
            with tempfile.TemporaryDirectory() as folder:
                with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
                    json.dump(dict(config, mtp_num_hidden_layers=n), f)
                said[n] = (json.loads(heddle("inspect", folder, "--json").stdout), heddle("inspect", folder).stdout)
        self.assertEqual(said[0][0]["params_total"], said[1][0]["params_total"])
        self.assertEqual(said[0][0]["params_published_total"], said[0][0]["params_total"])
        self.assertEqual(said[1][0]["params_published_total"] - said[1][0]["params_total"], 65920)
        self.assertNotIn("further tokens", said[0][1])
        self.assertIn("0.27 million of the language model with 1 layer for further tokens", said[1][1])

    def test_impossible_layout_says_why(self):
        done = heddle("inspect", MODEL, "--tp", "3")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout, "")
        self.assertGreaterEqual(done.stderr.count(";"), 1)

    @unittest.skipIf(os.path.exists("/dev/nvidia0"), "here there is one")
    def test_a_device_without_a_backend_is_refused(self):
        """And not replaced by the CPU, neither by a command nor by a worker."""
        for args in (["serve", MODEL, "--port", "0"], ["generate", MODEL, "--prompt", "a"]):
            done = heddle(*args, "--device", "cuda")
            self.assertNotEqual(done.returncode, 0, args)
            self.assertRegex(done.stderr, "no CUDA backend: [^;]+;.*--device cpu")
        worker = subprocess.run([os.path.join(BIN, "heddle-worker"), "--scheduler", "127.0.0.1:1", "--device", "cuda"],
                                capture_output=True, text=True, timeout=60)
        self.assertEqual(worker.returncode, 2)
        self.assertIn("no CUDA backend: ", worker.stderr)
        self.assertEqual(heddle("inspect", MODEL, "--device", "cuda").returncode, 0)  # planning for it is fine

    def test_unknown_architecture_is_refused_by_name(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as f:
                json.dump({"architectures": ["NobodyForCausalLM"], "model_type": "nobody"}, f)
            done = heddle("inspect", folder)
        self.assertEqual(done.returncode, 1)
        self.assertIn("NobodyForCausalLM", done.stderr)

    def test_missing_folder(self):
        done = heddle("inspect", "/nowhere/at/all")
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere/at/all", done.stderr)

    def test_what_cannot_be_read_says_why(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "config.json")
            done = heddle("inspect", folder)
            self.assertEqual(done.returncode, 1)
            self.assertIn("config.json does not exist", done.stderr)
            os.symlink(path, path)
            for model in (path, folder):  # as the path that is named, and as a file within it
                done = heddle("inspect", model)
                self.assertEqual(done.returncode, 1)
                self.assertIn("symbolic links", done.stderr)


class Text(unittest.TestCase):
    def test_ids_and_back(self):
        for text in ["Hello there", "12 + 30", "\u00e9\u4f60\u597d \U0001f600", "a\n\nb\t", " "]:
            ids = heddle("tokenize", MODEL, stdin=text)
            self.assertEqual(ids.returncode, 0, ids.stderr)
            back = heddle("tokenize", MODEL, "--decode", stdin=ids.stdout)
            self.assertEqual(back.stdout, text)

    def test_special_tokens_only_when_asked(self):
        plain = heddle("tokenize", MODEL, stdin="<|im_end|>").stdout.split()
        special = heddle("tokenize", MODEL, "--special", stdin="<|im_end|>").stdout.split()
        self.assertGreater(len(plain), 1)
        self.assertEqual(len(special), 1)

    def test_bad_id(self):
        done = heddle("tokenize", MODEL, "--decode", stdin="12 twelve")
        self.assertEqual(done.returncode, 1)
        self.assertIn("twelve", done.stderr)

    def test_template(self):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
            json.dump([{"role": "user", "content": "Hi"}], f)
            f.flush()
            done = heddle("template", MODEL, f.name)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(done.stdout.endswith("<|im_start|>assistant\n"))


class Generate(unittest.TestCase):
    def test_same_ids_on_every_layout(self):
        args = ["--prompt", "Count to ten:", "--ids", "-n", "24", "--ignore-eos", "--temperature", "0.8", "--seed", "7"]
        one = heddle("generate", MODEL, *args)
        self.assertEqual(one.returncode, 0, one.stderr)
        self.assertEqual(len(one.stdout.split()), 24)
        for layout in (["--tp", "2"], ["--tp", "2", "--ep", "2"], ["--ep", "4"]):
            other = heddle("generate", MODEL, *args, *layout)
            self.assertEqual(other.stdout, one.stdout, layout)

    def test_guesses_change_no_token(self):
        prompt = "user\nSpell \"table\".\nassistant\nt-a-b-l-e\nuser\nSpell \"table\".\nassistant\nt-"
        for sampling in ["--temperature", "0"], ["--temperature", "0.7", "--seed", "5"]:
            args = "--prompt", prompt, "-n", "60", "--ids", "--ignore-eos", *sampling
            plain = heddle("generate", MODEL, *args, "--speculate", "off")
            self.assertEqual(plain.returncode, 0, plain.stderr)
            for more in ["ngram"], ["ngram", "--speculate-tokens", "3"], ["ngram", "--tp", "2"]:
                other = heddle("generate", MODEL, *args, "--speculate", *more)
                self.assertEqual(other.stdout, plain.stdout, (sampling, more, other.stderr))

    def test_prompt_is_needed(self):
        self.assertEqual(heddle("generate", MODEL).returncode, 2)


class Run(unittest.TestCase):
    def test_one_answer_from_a_model_folder(self):
        done = heddle("run", MODEL, "Hello!", "--temperature", "0", "--max-tokens", "20")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(len(done.stdout.strip()), 0)

    def test_piped_prompt(self):
        done = heddle("run", MODEL, "--max-tokens", "8", stdin="Hello!")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_no_server_there(self):
        done = heddle("run", "http://127.0.0.1:1", "Hello!")
        self.assertEqual(done.returncode, 1)
        self.assertIn("http://127.0.0.1:1", done.stderr)


class Cluster(unittest.TestCase):
    def test_no_scheduler_there(self):
        done = heddle("cluster", "status", "--scheduler", "unix:/nowhere/rpc.sock")
        self.assertEqual(done.returncode, 1)
        self.assertIn("unix:/nowhere/rpc.sock", done.stderr)
        self.assertIn("rpc.listen", done.stderr)


class Bench(unittest.TestCase):
    def test_sched_json(self):
        done = heddle("bench", "sched", "--running", "200", "--steps", "50", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        row = json.loads(done.stdout)["rows"][0]
        self.assertEqual(row["running"], 200)
        self.assertGreater(row["step_us_median"], 0)

    def test_model_json(self):
        done = heddle("bench", "model", MODEL, "--pp", "64", "--batch", "1,2", "--ctx", "0,100", "--tg", "9", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads(done.stdout)["rows"]
        self.assertEqual([(r["phase"], r["tokens"], r["context"]) for r in rows],
                         [("prefill", 64, 0), ("prefill", 64, 100), ("decode", 1, 0), ("decode", 2, 0), ("decode", 1, 100),
                          ("decode", 2, 100)])
        for row in rows:
            for key in ("tokens_per_s", "bytes_per_s", "stream_bytes_per_s", "stream_share", "flop_per_s", "peak_flop_per_s", "peak_share"):
                self.assertGreater(row[key], 0, f"{key} of {row}")
        self.assertEqual([r["steps"] for r in rows if r["phase"] == "decode"], [9] * 4)

    def test_model_says_what_it_skips(self):
        done = heddle("bench", "model", MODEL, "--pp", "64", "--batch", "1,256", "--kv-bytes", "4MiB", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = json.loads(done.stdout)["rows"]
        self.assertIn("--kv-bytes", rows[2]["skipped"])
        self.assertNotIn("skipped", rows[1])

    def test_model_list(self):
        done = heddle("bench", "model", MODEL, "--batch", "0")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--batch is a list", done.stderr)

    def test_text_points_at_the_comparison(self):
        done = heddle("bench", "text", MODEL, "--samples", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("heddle bench text --tokenizers python3 MODEL...", done.stdout)
        self.assertIn("--tokenizers PYTHON", heddle("bench", "text", "--help").stdout)

    def test_text_needs_a_python(self):
        done = heddle("bench", "text", MODEL, "--tokenizers", "/no/python")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("--tokenizers: cannot run /no/python; ", done.stderr)

    @unittest.skipUnless(importlib.util.find_spec("tokenizers"), "the package tokenizers is not installed")
    def test_text_beside_tokenizers(self):
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
            f.write("what is 3 + 4 ? " * 50)
            f.flush()
            done = heddle("bench", "text", MODEL, "--tokenizers", sys.executable, "--rounds", "1", "--samples", "1", "--text", f.name, "--json")
            with open(f.name, encoding="utf-8") as text:
                ids = heddle("tokenize", MODEL, stdin=text.read()).stdout.split()
        self.assertEqual(done.returncode, 0, done.stderr)
        row, = json.loads(done.stdout)["rows"]
        self.assertEqual(row["tokens"], len(ids))
        for key in ("encode_mb_s", "first_mb_s", "decode_mb_s"):
            ours, theirs, ratio = row[key]
            self.assertGreater(min(ours, theirs), 0)
            self.assertAlmostEqual(ratio, ours / theirs)


if __name__ == "__main__":
    unittest.main()
