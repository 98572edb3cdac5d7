#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The Grafana dashboard from one table: a row of it is a panel. Writes heddle.json beside this file.

  make.py            writes it
  make.py --check    exit 1 when heddle.json is not what the table says

tests/deploy asks a real Prometheus every expression of the table after a scrape of a real server.
"""
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
QUANTILES = (0.5, 0.9, 0.99)
W = "[$__rate_interval]"


def rate(metric, by=""):
    return f"sum{' by (' + by + ')' if by else ''} (rate({metric}{{job=~\"$job\"}}{W}))"


def total(metric, by=""):
    return f"sum{' by (' + by + ')' if by else ''} ({metric}{{job=~\"$job\"}})"


def quantiles(metric, by=""):
    """Quantiles of a histogram, over all series or by a label."""
    group = f"le, {by}" if by else "le"
    return [(f"histogram_quantile({q}, sum by ({group}) (rate({metric}_bucket{{job=~\"$job\"}}{W})))",
             f"p{round(q * 100)}" + (f" {{{{{by}}}}}" if by else "")) for q in QUANTILES]


# Row title -> panels: title, unit of Grafana, [(expression, legend)].
ROWS = {
    "What clients feel": [
        ("Time to first token", "s", quantiles("heddle_time_to_first_token_seconds")),
        ("Inter-token latency", "s", quantiles("heddle_inter_token_latency_seconds")),
        ("Time per output token, by request", "s", quantiles("heddle_time_per_output_token_seconds")),
        ("Whole requests", "s", quantiles("heddle_request_duration_seconds")),
        ("Waiting in the queue", "s", quantiles("heddle_request_queue_time_seconds")),
        ("Requests that ended", "reqps", [(rate("heddle_requests_total", "outcome"), "{{outcome}}")]),
        ("Refused before they ran", "reqps", [(rate("heddle_admission_rejected_total", "reason"), "{{reason}}")]),
        ("HTTP answers", "reqps", [(rate("heddle_http_requests_total", "code"), "{{code}}")]),
    ],
    "Work": [
        ("Tokens", "short", [(rate("heddle_prompt_tokens_total"), "prompt"), (rate("heddle_generation_tokens_total"), "generated")]),
        ("Requests", "short", [(total("heddle_requests_running"), "running"), (total("heddle_requests_waiting"), "waiting")]),
        ("Prompt tokens in the queue", "short", [(total("heddle_queue_tokens"), "tokens")]),
        ("KV blocks", "percentunit", [
            (f"{total('heddle_kv_blocks_used', 'cache')} / {total('heddle_kv_blocks', 'cache')}", "group {{cache}}, held"),
            (f"{total('heddle_kv_blocks_cached', 'cache')} / {total('heddle_kv_blocks', 'cache')}", "group {{cache}}, cached"),
        ]),
        ("Prefix cache hits", "percentunit", [
            (f"{rate('heddle_prefix_cache_hit_tokens_total')} / {rate('heddle_prefix_cache_query_tokens_total')}", "tokens found"),
        ]),
        ("Speculation", "percentunit", [
            (f"{rate('heddle_spec_decode_accepted_tokens_total')} / {rate('heddle_spec_decode_draft_tokens_total')}", "guesses that came true"),
            (f"{rate('heddle_spec_decode_accepted_tokens_total')} / {rate('heddle_generation_tokens_total')}", "tokens that were guesses"),
        ]),
        ("Guesses that come true in a row", "short", [
            (f"{rate('heddle_spec_decode_accepted_tokens_total')} / {rate('heddle_spec_decode_drafts_total')}", "guesses"),
        ]),
        ("Preemptions, state snapshots", "short", [
            (rate("heddle_preemptions_total"), "preemptions a second"),
            (rate("heddle_state_snapshots_total"), "snapshots a second"),
        ]),
    ],
    "Ranks": [
        ("Workers", "short", [(total("heddle_workers_ready"), "ready"), (total("heddle_workers_wanted"), "wanted")]),
        ("Replicas", "short", [(total("heddle_replicas"), "serve"), (total("heddle_replicas_desired"), "desired")]),
        ("Step", "s", quantiles("heddle_step_seconds", "rank")),
        ("Collectives in a step", "s", quantiles("heddle_collective_seconds", "rank")),
        ("Groups formed anew, workers restarted", "short", [
            (f"sum (increase(heddle_group_epochs_total{{job=~\"$job\"}}{W}))", "epochs"),
            (f"sum (increase(heddle_worker_restarts_total{{job=~\"$job\"}}{W}))", "restarts"),
        ]),
        ("Recovery after a loss", "s", quantiles("heddle_recovery_seconds")),
    ],
    "Process": [
        ("Connections", "short", [(total("heddle_http_connections"), "open"), (rate("heddle_http_slow_readers_total"), "slow readers a second")]),
        ("Log lines lost", "short", [(rate("heddle_log_lines_dropped_total"), "a second")]),
        ("Up since", "dateTimeAsIso", [(f"max (heddle_start_time_seconds{{job=~\"$job\"}}) * 1000", "start")]),
        ("Version", "short", [("count by (version) (heddle_build_info{job=~\"$job\"})", "{{version}}")]),
    ],
}


def expressions():
    """Every expression of the dashboard, with its variables as Prometheus would get them."""
    for panels in ROWS.values():
        for _, _, targets in panels:
            for expr, _ in targets:
                yield expr.replace("$__rate_interval", "1m").replace("$job", ".*")


def dashboard():
    panels, y = [], 0
    source = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
    for row, entries in ROWS.items():
        panels.append({"type": "row", "title": row, "collapsed": False, "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        y += 1
        for i, (title, unit, targets) in enumerate(entries):
            panels.append({
                "type": "timeseries", "title": title, "datasource": source,
                "gridPos": {"h": 7, "w": 6, "x": i % 4 * 6, "y": y + i // 4 * 7},
                "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"lineWidth": 1, "fillOpacity": 8}}, "overrides": []},
                "targets": [{"refId": chr(65 + t), "datasource": source, "expr": expr, "legendFormat": legend}
                            for t, (expr, legend) in enumerate(targets)],
            })
        y += (len(entries) + 3) // 4 * 7
    for i, panel in enumerate(panels):
        panel["id"] = i + 1
    return {
        "title": "heddle", "uid": "heddle", "schemaVersion": 39, "version": 1, "editable": True, "refresh": "10s",
        "tags": ["heddle", "inference"], "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [
            {"name": "DS_PROMETHEUS", "type": "datasource", "query": "prometheus", "label": "Data source"},
            {"name": "job", "type": "query", "label": "Job", "datasource": source, "multi": True, "includeAll": True, "allValue": ".*",
             "query": {"query": "label_values(heddle_build_info, job)", "refId": "job"}, "refresh": 2},
        ]},
        "panels": panels,
    }


def main():
    text = json.dumps(dashboard(), indent=1) + "\n"
    path = HERE / "heddle.json"
    if "--check" in sys.argv[1:]:
        if not path.exists() or path.read_text() != text:
            sys.exit(f"{path.name} is not what the table says; run deploy/dashboards/make.py")
        return
    path.write_text(text)


if __name__ == "__main__":
    main()
