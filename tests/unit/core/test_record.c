/* SPDX-License-Identifier: Apache-2.0 */
/* A recorded run and its replay agree, from the file. */
#include "rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/fs.h"
#include "scheduler/core/journal.h"
#include "scheduler/core/state.h"
#include "scheduler/record/confine.h"
#include "scheduler/record/recorder.h"
#include "scheduler/record/replay.h"
#include "scheduler/record/state_file.h"

enum { RING_FILE_BYTES = 4096 };

static char dir[64], path[128];
static rig r;
static hdl_recorder *rec;
static hdl_replay_report report;
static hdl_errmsg why;
static uint64_t digest, n_fed; /* of what the core was given and wanted */
static bool in_step;           /* wait for the recorder's thread after each event */
static bool guesses;           /* sequences say again what they have said */

static int setup(void **state)
{
    (void)state;
    if (hdl_fs_mkdtemp(dir, sizeof dir, "heddle-record-", &why) != HDL_OK)
        return -1;
    snprintf(path, sizeof path, "%s/flight", dir);
    digest = n_fed = 0;
    in_step = guesses = false;
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
    digest = hdl_sched_digest(digest, &r.acts);
    n_fed++;
    if (in_step)
        hdl_recorder_wait(rec);
}

static const hdl_plan *flight[4];
static uint32_t n_flight;

static void take_off(void)
{
    for (uint32_t k = 0; rig_act(&r, HDL_ACT_PLAN, k); k++)
        flight[n_flight++] = rig_plan(&r, k);
}

/* Of a row, behind n others. Some guesses are right, and some sequences end on a stop id. */
static uint32_t add_answers(const hdl_plan *p, const hdl_plan_row *row, uint64_t i, uint32_t n)
{
    const uint32_t more = row->flags & HDL_ROW_GUESS ? row->n_tokens - 1u : 0;
    for (uint32_t k = 0; k <= more; k++) {
        const uint32_t pos = row->pos + row->n_tokens - more + k;
        const uint32_t say = pos % 23 == 22 ? (uint32_t)(i % 20) : pos % 6;
        r.rows[n++] = (hdl_result_row){
            .slot = row->slot, .pos = pos, .token = (hdl_token)(guesses ? say : i * 7 % 20)};
        if (k < more && p->tokens[row->token_at + 1 + k] != r.rows[n - 1].token)
            break;
    }
    return n;
}

/* Some requests with a shared prefix and a stop id, until nothing runs. */
static void fly(uint64_t epoch)
{
    feed((hdl_event){.kind = HDL_EV_RANK_UP, .rank = {.epoch = epoch, .n_blocks = {64}}});
    n_flight = 0;
    for (uint64_t i = 1; i < 40 || n_flight > 0; i++) {
        if (i < 40 && i % 3 == 0) {
            hdl_ev_submit s = rig_request(&r, epoch * 100 + i, 5 + (uint32_t)i, guesses ? 60 : 9);
            s.n_stop_ids = 1;
            s.stop_ids[0] = 13;
            feed((hdl_event){.kind = HDL_EV_SUBMIT, .submit = s});
            take_off();
        }
        if (n_flight == 0)
            continue;
        const hdl_plan *p = flight[0];
        flight[0] = flight[1];
        n_flight--;
        hdl_ev_result res = {.epoch = epoch, .step = p->step, .rows = r.rows};
        for (uint32_t k = 0; k < p->n_rows; k++)
            if (p->rows[k].flags & HDL_ROW_SAMPLE)
                res.n_rows = add_answers(p, &p->rows[k], i, res.n_rows);
        feed((hdl_event){.kind = HDL_EV_RESULT, .result = res});
        take_off();
    }
}

static void start(uint64_t cap_bytes)
{
    hdl_recorder_opts opts = {.path = path, .key = 0x5eed, .cap_bytes = cap_bytes};
    assert_int_equal(hdl_recorder_open(&rec, &opts, &r.config, &why), HDL_OK);
}

static void test_replay_agrees(void **state)
{
    (void)state;
    start(0);
    fly(1);
    hdl_sched_stats live = rig_stats(&r);
    assert_true(live.finished[HDL_FINISH_STOP] > 0 && live.prefix_hit_tokens > 0);
    hdl_recorder_close(rec);
    assert_int_equal(hdl_replay_file(path, &report, &why), HDL_OK);
    assert_true(report.same && !report.torn && report.broken[0] == '\0');
    assert_int_equal(report.n_digests, 1);
    assert_memory_equal(&report.stats, &live, sizeof live);
}

/* The core that replays sees pseudonyms, in which nothing repeats itself. */
static void test_guesses_are_told(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    c.block_tokens = 16;
    c.guess_tokens = 7;
    c.guess_step_tokens = 16;
    rig_free(&r);
    rig_init(&r, &c);
    guesses = true;
    start(0);
    fly(1);
    hdl_sched_stats live = rig_stats(&r);
    assert_true(live.guesses_held > 20 && live.guesses_held < live.guesses);
    assert_true(live.finished[HDL_FINISH_STOP] > 0 && live.finished[HDL_FINISH_LENGTH] > 0);
    hdl_recorder_close(rec);
    assert_int_equal(hdl_replay_file(path, &report, &why), HDL_OK);
    assert_true(report.same && !report.torn && report.broken[0] == '\0');
    assert_memory_equal(&report.stats, &live, sizeof live);
}

static void test_torn_and_damaged_files(void **state)
{
    (void)state;
    start(0);
    fly(1);
    hdl_recorder_close(rec);
    char *text;
    size_t len;
    assert_int_equal(hdl_fs_read(path, 1 << 24, &text, &len, &why), HDL_OK);
    assert_int_equal(hdl_replay_bytes(text, len - 40, 1 << 28, &report, &why), HDL_OK);
    assert_true(report.torn);
    text[len / 2] ^= 1;
    assert_int_equal(hdl_replay_bytes(text, len, 1 << 28, &report, &why), HDL_CORRUPT);
    assert_int_equal(hdl_replay_bytes(text, len, 1000, &report, &why), HDL_BUSY);
    free(text);
    assert_int_equal(hdl_replay_file("/nonexistent", &report, &why), HDL_NOTFOUND);
}

/* Nothing was given up for what could not be kept: an event that fits into no file. */
static void test_a_small_cap_stops_the_recorder_alone(void **state)
{
    (void)state;
    start(1400);
    fly(1);
    assert_int_equal(hdl_recorder_state(rec), HDL_BUSY);
    assert_int_equal(rig_stats(&r).running, 0);
    hdl_recorder_close(rec);
}

/* Where both files together are a fraction of what was recorded. */
static void record_a_ring(void)
{
    start(2 * RING_FILE_BYTES);
    in_step = true;
    for (uint64_t epoch = 1; epoch <= 4; epoch++)
        fly(epoch);
    assert_int_equal(hdl_recorder_state(rec), HDL_OK);
    hdl_recorder_close(rec);
}

static const char *beside(const char *suffix)
{
    static char name[160];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return name;
}

static hdl_err replay(const char *file) { return hdl_replay_file(file, &report, &why); }

static void assert_whole(void)
{
    hdl_sched_stats live = rig_stats(&r);
    assert_true(report.same && !report.torn && report.broken[0] == '\0');
    assert_int_equal(report.n_events, n_fed);
    assert_int_equal(report.digest, digest);
    assert_memory_equal(&report.stats, &live, sizeof live);
}

static void test_a_ring_replays_from_each_file(void **state)
{
    (void)state;
    record_a_ring();
    assert_false(hdl_fs_exists(beside(".2")));
    if (replay(path) != HDL_OK)
        fail_msg("%s", why.text);
    assert_whole();
    assert_in_range(report.from_event, 50, n_fed - 1);
    uint64_t newest = report.from_event;
    assert_int_equal(replay(beside(".1")), HDL_OK);
    assert_true(report.same && report.from_event > 0 && report.from_event < newest);
    assert_int_equal(report.n_events, newest);
}

/* As after a crash in the moment of a change of files. */
static void test_without_its_state_a_file_needs_the_one_before(void **state)
{
    (void)state;
    record_a_ring();
    assert_int_equal(unlink(beside(".state")), 0);
    assert_int_equal(replay(path), HDL_OK);
    assert_whole();
    assert_int_equal(unlink(beside(".1")), 0);
    assert_int_equal(replay(path), HDL_NOTFOUND);
    assert_non_null(strstr(why.text, "nor the file before it"));
}

static void test_a_damaged_state(void **state)
{
    (void)state;
    record_a_ring();
    char *text;
    size_t len;
    assert_int_equal(hdl_fs_read(beside(".state"), 1 << 24, &text, &len, &why), HDL_OK);
    text[len / 2] ^= 1;
    assert_int_equal(hdl_fs_write_atomic(beside(".state"), (hdl_fs_bytes){text, len}, &why),
                     HDL_OK);
    assert_int_equal(replay(path), HDL_CORRUPT);
    text[20] ^= 1; /* another configuration's */
    assert_int_equal(hdl_fs_write_atomic(beside(".state"), (hdl_fs_bytes){text, len}, &why),
                     HDL_OK);
    assert_int_equal(replay(path), HDL_NOTFOUND);
    free(text);
}

/* The place that a state file is about. */
static hdl_record_mark mark_of(const char *file)
{
    hdl_record_mark mark;
    char *text;
    size_t len;
    assert_int_equal(hdl_fs_read(file, 1 << 24, &text, &len, &why), HDL_OK);
    memcpy(&mark, text + 24, sizeof mark);
    free(text);
    return mark;
}

/* A state that is not damaged but made up: it breaks the child that runs it, and nothing else. */
static void test_a_state_that_lies(void **state)
{
    (void)state;
    record_a_ring();
    assert_int_equal(replay(path), HDL_OK);
    size_t bytes = hdl_sched_bytes(&r.config);
    void *mem = calloc(1, bytes + 64);
    void *aligned = (char *)mem + (64 - (uintptr_t)mem % 64);
    hdl_state_image image = {
        .config = &r.config, .state = aligned, .mark = mark_of(beside(".state"))};
    assert_int_equal(hdl_state_read(beside(".state"), &image, &why), HDL_OK);
    hdl_sched *lie = hdl_sched_adopt(aligned, bytes, &r.config);
    lie->queue.again[0].head = 0x70000000; /* far outside */
    assert_int_equal(hdl_state_write(beside(".state"), &image, &why), HDL_OK);
    assert_int_equal(replay(path), HDL_CORRUPT);
    assert_non_null(strstr(why.text, "broke"));
    free(mem);
}

static hdl_err computes(void *arg, hdl_errmsg *out)
{
    *(int *)arg *= 2;
    return hdl_fail(HDL_DENIED, out, "said there");
}

static hdl_err opens_a_file(void *arg, hdl_errmsg *out)
{
    (void)out;
    *(int *)arg = open("/dev/null", O_RDONLY);
    return HDL_OK;
}

static void test_confined(void **state)
{
    (void)state;
    int n = 21;
    assert_int_equal(hdl_confine(computes, &n, (hdl_confine_answer){&n, sizeof n}, &why),
                     HDL_DENIED);
    assert_int_equal(n, 42);
    assert_string_equal(why.text, "said there");
    assert_int_equal(hdl_confine(opens_a_file, &n, (hdl_confine_answer){&n, sizeof n}, &why),
                     HDL_CORRUPT);
    assert_int_equal(n, 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_replay_agrees, setup, teardown),
        cmocka_unit_test_setup_teardown(test_guesses_are_told, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_and_damaged_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_small_cap_stops_the_recorder_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_ring_replays_from_each_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_its_state_a_file_needs_the_one_before, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_damaged_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_state_that_lies, setup, teardown),
        cmocka_unit_test(test_confined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
