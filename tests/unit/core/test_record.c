/* SPDX-License-Identifier: Apache-2.0 */
/* A recorded run and its replay agree, from the file. */
#include "rig.h"

#include <stdio.h>
#include <unistd.h>

#include "base/fs.h"
#include "scheduler/core/journal.h"
#include "scheduler/record/recorder.h"
#include "scheduler/record/replay.h"

static char dir[64], path[128];
static rig r;
static hdl_recorder *rec;

static int setup(void **state)
{
    (void)state;
    hdl_errmsg why;
    if (hdl_fs_mkdtemp(dir, sizeof dir, "heddle-record-", &why) != HDL_OK)
        return -1;
    snprintf(path, sizeof path, "%s/flight", dir);
    hdl_sched_config c = rig_config();
    rig_init(&r, &c);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_free(&r);
    return hdl_fs_remove_tree(dir) == HDL_OK ? 0 : -1;
}

static void feed(hdl_event ev)
{
    ev.now_us = r.now_us += 100;
    hdl_recorder_step(rec, r.s, &ev, &r.acts);
}

/* Some requests with a shared prefix and a stop id, until nothing runs. Returns the digest of what
 * was decided. */
static void fly(void)
{
    const hdl_plan *flight[4];
    uint32_t n = 0;
    feed((hdl_event){.kind = HDL_EV_RANK_UP, .rank = {.epoch = 1, .n_blocks = {64}}});
    for (uint64_t i = 1; i < 40 || n > 0; i++) {
        if (i < 40 && i % 3 == 0) {
            hdl_ev_submit s = rig_request(&r, i, 5 + (uint32_t)i, 9);
            s.n_stop_ids = 1;
            s.stop_ids[0] = 13;
            feed((hdl_event){.kind = HDL_EV_SUBMIT, .submit = s});
            for (uint32_t k = 0; rig_act(&r, HDL_ACT_PLAN, k); k++)
                flight[n++] = rig_plan(&r, k);
        }
        if (n == 0)
            continue;
        const hdl_plan *p = flight[0];
        flight[0] = flight[1];
        n--;
        hdl_ev_result res = {.epoch = 1, .step = p->step, .rows = r.rows};
        for (uint32_t k = 0; k < p->n_rows; k++)
            if (p->rows[k].flags & HDL_ROW_SAMPLE)
                r.rows[res.n_rows++] = (hdl_result_row){.slot = p->rows[k].slot,
                                                        .pos = p->rows[k].pos + p->rows[k].n_tokens,
                                                        .token = (hdl_token)(i * 7 % 20)};
        feed((hdl_event){.kind = HDL_EV_RESULT, .result = res});
        for (uint32_t k = 0; rig_act(&r, HDL_ACT_PLAN, k); k++)
            flight[n++] = rig_plan(&r, k);
    }
}

static void start(uint64_t cap_bytes)
{
    hdl_errmsg why;
    hdl_recorder_opts opts = {.path = path, .key = 0x5eed, .cap_bytes = cap_bytes};
    assert_int_equal(hdl_recorder_open(&rec, &opts, &r.config, &why), HDL_OK);
}

static void test_replay_agrees(void **state)
{
    (void)state;
    start(0);
    fly();
    hdl_sched_stats live = rig_stats(&r);
    assert_true(live.finished[HDL_FINISH_STOP] > 0 && live.prefix_hit_tokens > 0);
    hdl_recorder_close(rec);
    hdl_replay_report report;
    hdl_errmsg why;
    assert_int_equal(hdl_replay_file(path, &report, &why), HDL_OK);
    assert_true(report.same && !report.torn && !report.broken);
    assert_int_equal(report.n_digests, 1);
    assert_memory_equal(&report.stats, &live, sizeof live);
}

static void test_torn_and_damaged_files(void **state)
{
    (void)state;
    start(0);
    fly();
    hdl_recorder_close(rec);
    hdl_errmsg why;
    char *text;
    size_t len;
    assert_int_equal(hdl_fs_read(path, 1 << 24, &text, &len, &why), HDL_OK);
    hdl_replay_report report;
    assert_int_equal(hdl_replay_bytes(text, len - 40, 1 << 28, &report, &why), HDL_OK);
    assert_true(report.torn);
    text[len / 2] ^= 1;
    assert_int_equal(hdl_replay_bytes(text, len, 1 << 28, &report, &why), HDL_CORRUPT);
    assert_int_equal(hdl_replay_bytes(text, len, 1000, &report, &why), HDL_BUSY);
    free(text);
    assert_int_equal(hdl_replay_file("/nonexistent", &report, &why), HDL_NOTFOUND);
}

static void test_cap_stops_the_recorder_alone(void **state)
{
    (void)state;
    start(4096);
    fly();
    assert_int_equal(hdl_recorder_state(rec), HDL_BUSY);
    assert_int_equal(rig_stats(&r).running, 0);
    hdl_recorder_close(rec);
    hdl_replay_report report;
    hdl_errmsg why;
    assert_int_equal(hdl_replay_file(path, &report, &why), HDL_OK);
    assert_true(report.same && report.n_events > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_replay_agrees, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_and_damaged_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cap_stops_the_recorder_alone, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
