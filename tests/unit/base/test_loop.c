/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <pthread.h>
#include <sys/socket.h>

#include "base/loop.h"
#include "base/rng.h"

static hdl_loop *loop;
static hdl_errmsg why;

static int setup(void **state)
{
    (void)state;
    return hdl_loop_open(&loop, &why) == HDL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    hdl_loop_close(loop);
    return 0;
}

typedef struct peer {
    hdl_watch watch;
    int other_fd;
    int calls;
    uint32_t ready;
    struct peer *victim; /* removed and freed by the first callback */
} peer;

static void on_ready(hdl_loop *l, hdl_watch *watch, uint32_t ready)
{
    peer *p = watch->arg;
    p->calls++;
    p->ready = ready;
    if (p->victim) {
        hdl_watch_del(l, &p->victim->watch);
        close(p->victim->watch.fd);
        close(p->victim->other_fd);
        free(p->victim);
        p->victim = NULL;
    }
}

static peer *new_peer(void)
{
    int fds[2];
    peer *p = calloc(1, sizeof *p);
    assert_non_null(p);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    p->watch = (hdl_watch){.fd = fds[0], .fn = on_ready, .arg = p};
    p->other_fd = fds[1];
    return p;
}

static void free_peer(peer *p)
{
    hdl_watch_del(loop, &p->watch);
    close(p->watch.fd);
    if (p->other_fd >= 0)
        close(p->other_fd);
    free(p);
}

static void turn(void) { assert_ok(hdl_loop_run_once(loop, 0)); }

static void test_events(void **state)
{
    (void)state;
    peer *p = new_peer();
    assert_ok(hdl_watch_add(loop, &p->watch, HDL_LOOP_READ | HDL_LOOP_HANGUP));
    turn();
    assert_int_equal(p->calls, 0);
    assert_int_equal(write(p->other_fd, "x", 1), 1);
    turn();
    turn(); /* level-triggered: told again */
    assert_int_equal(p->calls, 2);
    assert_int_equal(p->ready, HDL_LOOP_READ);
    assert_ok(hdl_watch_set(loop, &p->watch, HDL_LOOP_WRITE));
    assert_ok(hdl_watch_set(loop, &p->watch, HDL_LOOP_WRITE));
    turn();
    assert_int_equal(p->ready, HDL_LOOP_WRITE);
    assert_ok(hdl_watch_set(loop, &p->watch, HDL_LOOP_HANGUP));
    close(p->other_fd);
    p->other_fd = -1;
    turn();
    assert_true(p->ready & HDL_LOOP_HANGUP);
    int calls = p->calls;
    hdl_watch_del(loop, &p->watch);
    hdl_watch_del(loop, &p->watch); /* nothing */
    turn();
    assert_int_equal(p->calls, calls);
    free_peer(p);

    hdl_watch bad = {.fd = -1, .fn = on_ready};
    assert_err(hdl_watch_add(loop, &bad, HDL_LOOP_READ), IO);
}

/* Whichever of two ready watches runs first removes and frees the other: no callback on freed
 * memory. */
static void test_remove_other(void **state)
{
    (void)state;
    peer *a = new_peer(), *b = new_peer();
    a->victim = b;
    b->victim = a;
    assert_int_equal(write(a->other_fd, "x", 1), 1);
    assert_int_equal(write(b->other_fd, "x", 1), 1);
    assert_ok(hdl_watch_add(loop, &a->watch, HDL_LOOP_READ));
    assert_ok(hdl_watch_add(loop, &b->watch, HDL_LOOP_READ));
    turn();
    /* epoll reports in the order of becoming ready: a ran and freed b */
    assert_int_equal(a->calls, 1);
    assert_null(a->victim);
    free_peer(a);
}

typedef struct alarm_clock {
    hdl_timer timer;
    int fired;
    int order;
    struct alarm_clock *victim;
    bool again; /* sets itself for a time in the past */
} alarm_clock;

static int fire_order;

static void on_timer(hdl_loop *l, hdl_timer *timer)
{
    alarm_clock *a = timer->arg;
    a->fired++;
    a->order = ++fire_order;
    if (a->victim)
        hdl_timer_del(l, &a->victim->timer);
    if (a->again)
        assert_ok(hdl_timer_set(l, timer, 1));
}

static alarm_clock make_alarm(void) { return (alarm_clock){.timer = {.fn = on_timer}}; }

static void test_timers(void **state)
{
    (void)state;
    alarm_clock a = make_alarm(), b = make_alarm(), c = make_alarm(), far = make_alarm();
    a.timer.arg = &a, b.timer.arg = &b, c.timer.arg = &c, far.timer.arg = &far;
    fire_order = 0;
    hdl_time_us now_us = hdl_loop_now_us(loop);
    assert_ok(hdl_timer_set(loop, &b.timer, now_us - 1));
    assert_ok(hdl_timer_set(loop, &a.timer, now_us - 2));
    assert_ok(hdl_timer_set(loop, &c.timer, now_us - 1)); /* after b: same time, set later */
    assert_ok(hdl_timer_set(loop, &far.timer, now_us + 3600 * HDL_SEC_US));
    assert_true(hdl_timer_is_set(&far.timer));
    turn();
    assert_int_equal(a.order, 1);
    assert_int_equal(b.order, 2);
    assert_int_equal(c.order, 3);
    assert_int_equal(far.fired, 0);
    assert_false(hdl_timer_is_set(&a.timer));

    a.victim = &b;
    assert_ok(hdl_timer_set(loop, &a.timer, 1));
    assert_ok(hdl_timer_set(loop, &b.timer, 2));
    turn();
    assert_int_equal(b.fired, 1); /* removed by a before it ran */
    a.victim = NULL;

    a.again = true;
    assert_ok(hdl_timer_set(loop, &a.timer, 1));
    turn();
    assert_int_equal(a.fired, 3); /* once a turn, although always due */
    hdl_timer_del(loop, &a.timer);
    hdl_timer_del(loop, &a.timer);

    assert_ok(hdl_timer_set(loop, &far.timer, 1)); /* moved forward */
    turn();
    assert_int_equal(far.fired, 1);

    /* A waiting turn ends when the timer is due, and not before. */
    hdl_time_us due_us = hdl_clock_now_us() + 3000;
    assert_ok(hdl_timer_set(loop, &c.timer, due_us));
    while (c.fired < 2)
        assert_ok(hdl_loop_run_once(loop, UINT64_MAX));
    assert_true(hdl_loop_now_us(loop) >= due_us);
}

/* Random sets, moves and removals: each timer fires exactly when it is due. */
static void test_timer_model(void **state)
{
    (void)state;
    enum { COUNT = 200 };
    static alarm_clock alarms[COUNT];
    static hdl_time_us due[COUNT];
    hdl_rng rng;
    hdl_rng_init(&rng, 9);
    hdl_time_us base_us = hdl_loop_now_us(loop);
    for (int i = 0; i < COUNT; i++) {
        alarms[i] = make_alarm();
        alarms[i].timer.arg = &alarms[i];
    }
    for (int step = 0; step < 5000; step++) {
        size_t i = hdl_rng_below(&rng, COUNT);
        if (hdl_rng_chance(&rng, 1, 4)) {
            hdl_timer_del(loop, &alarms[i].timer);
            due[i] = 0;
        } else {
            /* far future or past: nothing depends on the speed of this test */
            due[i] = hdl_rng_chance(&rng, 1, 2) ? base_us + 3600 * HDL_SEC_US + (hdl_time_us)step
                                                : 1 + hdl_rng_below(&rng, base_us);
            assert_ok(hdl_timer_set(loop, &alarms[i].timer, due[i]));
        }
    }
    fire_order = 0;
    turn();
    for (size_t i = 0; i < COUNT; i++) {
        bool past = due[i] != 0 && due[i] <= base_us;
        assert_int_equal(alarms[i].fired, past);
        assert_int_equal(hdl_timer_is_set(&alarms[i].timer), due[i] > base_us);
        for (size_t j = 0; past && j < COUNT; j++)
            if (due[j] != 0 && due[j] < due[i])
                assert_true(alarms[j].order < alarms[i].order);
    }
}

static void count_turn(hdl_loop *l, void *arg)
{
    if (++*(int *)arg == 3)
        hdl_loop_stop(l);
    else
        hdl_loop_wake(l);
}

static void test_turn_and_stop(void **state)
{
    (void)state;
    int turns = 0;
    hdl_loop_on_turn(loop, count_turn, &turns);
    hdl_loop_wake(loop);
    assert_ok(hdl_loop_run(loop));
    assert_int_equal(turns, 3);
    turns = 0;
    hdl_loop_wake(loop);
    assert_ok(hdl_loop_run(loop)); /* runnable again */
    assert_int_equal(turns, 3);
    assert_true(hdl_loop_wake_fd(loop) >= 0);
}

static void *stopper(void *arg)
{
    for (int i = 0; i < 1000; i++)
        hdl_loop_wake(arg);
    hdl_loop_stop(arg);
    return NULL;
}

static void test_stop_from_thread(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, stopper, loop), 0);
    assert_ok(hdl_loop_run(loop));
    assert_int_equal(pthread_join(thread, NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_events, setup, teardown),
        cmocka_unit_test_setup_teardown(test_remove_other, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_timer_model, setup, teardown),
        cmocka_unit_test_setup_teardown(test_turn_and_stop, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stop_from_thread, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
