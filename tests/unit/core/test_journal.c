/* SPDX-License-Identifier: Apache-2.0 */
#include "rig.h"

#include "scheduler/core/journal.h"

static rig r;
static _Alignas(8) unsigned char bytes[1 << 16];

static int setup(void **state)
{
    (void)state;
    hdl_sched_config c = rig_config();
    rig_init(&r, &c);
    hdl_journal_header(&c, bytes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_free(&r);
    return 0;
}

static hdl_journal_reader open_reader(size_t size)
{
    hdl_journal_reader reader;
    hdl_sched_config c;
    const char *why;
    assert_int_equal(hdl_journal_open(&reader, bytes, size, &c, &why), HDL_OK);
    assert_memory_equal(&c, &r.config, sizeof c);
    return reader;
}

static void test_round_trip(void **state)
{
    (void)state;
    hdl_ev_submit s = rig_request(&r, 0x123456789ull, 20, 7);
    s.priority = 2;
    s.flags = HDL_SUBMIT_HISTORY;
    s.deadline_us = 99;
    s.n_stop_ids = 2;
    hdl_event submit = {.kind = HDL_EV_SUBMIT, .now_us = 5, .submit = s};
    hdl_event up = {
        .kind = HDL_EV_RANK_UP, .now_us = 6, .rank = {.epoch = 3, .n_blocks = {9}, .max_len = 40}};
    size_t at = HDL_JOURNAL_HEADER_BYTES;
    at += hdl_journal_event(r.s, &submit, 42, bytes + at);
    at += hdl_journal_event(r.s, &up, 42, bytes + at);
    at += hdl_journal_digest(2, 0xabc, bytes + at);

    hdl_journal_reader reader = open_reader(at);
    hdl_journal_record rec;
    assert_int_equal(hdl_journal_next(&reader, &rec), HDL_OK);
    assert_int_equal(rec.event.kind, HDL_EV_SUBMIT);
    assert_int_equal(rec.event.now_us, 5);
    assert_int_equal(rec.event.submit.req.v, 0x123456789ull);
    assert_int_equal(rec.event.submit.deadline_us, 99);
    assert_int_equal(rec.event.submit.n_prompt, 20);
    assert_int_equal(rec.event.submit.stop_ids[1], HDL_JOURNAL_STOP);
    assert_int_equal(hdl_journal_next(&reader, &rec), HDL_OK);
    assert_int_equal(rec.event.rank.n_blocks[0], 9);
    assert_int_equal(hdl_journal_next(&reader, &rec), HDL_OK);
    assert_true(rec.is_digest);
    assert_int_equal(rec.digest, 0xabc);
    assert_int_equal(hdl_journal_next(&reader, &rec), HDL_NOTFOUND);
}

/* Equal tokens at equal positions stay equal, and nothing else can be told. */
static void test_tokens_are_veiled(void **state)
{
    (void)state;
    hdl_token same[8] = {7, 7, 7, 7, 7, 7, 7, 7};
    hdl_ev_submit s = {.req = {1}, .max_new = 1, .prompt = same, .n_prompt = 8};
    hdl_event ev = {.kind = HDL_EV_SUBMIT, .submit = s};
    size_t at = HDL_JOURNAL_HEADER_BYTES;
    at += hdl_journal_event(r.s, &ev, 42, bytes + at);
    ev.submit.req.v = 2;
    at += hdl_journal_event(r.s, &ev, 42, bytes + at);
    at += hdl_journal_event(r.s, &ev, 43, bytes + at);
    hdl_journal_reader reader = open_reader(at);
    hdl_journal_record a, b, other;
    assert_int_equal(hdl_journal_next(&reader, &a), HDL_OK);
    assert_int_equal(hdl_journal_next(&reader, &b), HDL_OK);
    assert_int_equal(hdl_journal_next(&reader, &other), HDL_OK);
    assert_memory_equal(a.event.submit.prompt, b.event.submit.prompt, sizeof same);
    for (int i = 0; i < 8; i++) {
        assert_int_not_equal(a.event.submit.prompt[i], 7);
        assert_int_not_equal(a.event.submit.prompt[i], other.event.submit.prompt[i]);
        for (int k = 0; k < i; k++)
            assert_int_not_equal(a.event.submit.prompt[i], a.event.submit.prompt[k]);
    }
}

static void test_damage_is_seen(void **state)
{
    (void)state;
    hdl_event ev = {.kind = HDL_EV_CANCEL, .cancel = {.req = {5}}};
    size_t size = HDL_JOURNAL_HEADER_BYTES;
    size += hdl_journal_event(r.s, &ev, 1, bytes + size);
    hdl_journal_record rec;
    for (size_t i = HDL_JOURNAL_HEADER_BYTES + 4; i < size; i++) {
        bytes[i] ^= 0x40;
        hdl_journal_reader reader = open_reader(size);
        assert_int_equal(hdl_journal_next(&reader, &rec), HDL_CORRUPT);
        bytes[i] ^= 0x40;
    }
    hdl_journal_reader torn = open_reader(size - 1);
    assert_int_equal(hdl_journal_next(&torn, &rec), HDL_NOTFOUND);

    hdl_journal_reader reader;
    hdl_sched_config c;
    const char *why;
    assert_int_equal(hdl_journal_open(&reader, bytes, 100, &c, &why), HDL_CORRUPT);
    bytes[8] ^= 1;
    assert_int_equal(hdl_journal_open(&reader, bytes, size, &c, &why), HDL_UNSUPPORTED);
    assert_non_null(why);
    bytes[0] ^= 1;
    assert_int_equal(hdl_journal_open(&reader, bytes, size, &c, &why), HDL_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tokens_are_veiled, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_seen, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
