/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/record/shadow.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/thread.h"
#include "scheduler/record/run.h"

enum { PATH_BYTES = 4096 };

struct hdl_shadow {
    hdl_thread thread;
    pthread_mutex_t lock;
    pthread_cond_t change;
    _Atomic int state; /* hdl_shadow_state; written under lock */
    atomic_bool stop;
    char file[PATH_BYTES], state_file[PATH_BYTES]; /* the thread's while BUSY */
    /* the thread's */
    hdl_sched_config config;
    hdl_run_core run;
    hdl_replay_report report;
};

static hdl_err read_file(hdl_shadow *s, const hdl_fs_map *map, hdl_errmsg *why)
{
    hdl_journal_reader reader;
    const char *text;
    hdl_err err = hdl_journal_open(&reader, map->data, map->len, &s->config, &text);
    if (err != HDL_OK)
        return hdl_fail(err, why, "%s: %s", s->file, text);
    if (!s->run.mem) {
        HDL_TRY(hdl_run_core_open(&s->run, &s->config));
        s->report.config = s->config;
        s->run.sched = hdl_sched_init(s->run.mem, hdl_sched_bytes(&s->config), &s->config);
    }
    HDL_TRY(hdl_run_core_records(&s->run, &reader, why));
    if (!s->report.same || s->report.torn)
        return hdl_fail(HDL_BUG, why, "%s does not replay", s->file);
    return HDL_OK;
}

static hdl_err follow(hdl_shadow *s, hdl_errmsg *why)
{
    hdl_fs_map map;
    HDL_TRY(hdl_fs_map_open(&map, s->file, HDL_FS_SEQUENTIAL, why));
    hdl_err err = read_file(s, &map, why);
    hdl_fs_map_close(&map);
    HDL_TRY(err);
    return hdl_state_write(s->state_file,
                           &(hdl_state_image){.config = &s->config,
                                              .state = s->run.mem,
                                              .mark = {s->report.n_events, s->report.digest}},
                           why);
}

static void thread_main(void *arg)
{
    hdl_shadow *s = arg;
    pthread_mutex_lock(&s->lock);
    while (!atomic_load(&s->stop)) {
        if (atomic_load(&s->state) != HDL_SHADOW_BUSY) {
            pthread_cond_wait(&s->change, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        hdl_errmsg why = {0};
        hdl_err err = follow(s, &why);
        if (err != HDL_OK && err != HDL_CANCELLED)
            HDL_LOG(WARN, BRAIN, "recorder_state_failed", "why=%s", HDL_LOG_QUOTE(why.text));
        pthread_mutex_lock(&s->lock);
        atomic_store(&s->state, err == HDL_OK ? HDL_SHADOW_IDLE : HDL_SHADOW_FAILED);
        pthread_cond_broadcast(&s->change);
    }
    pthread_mutex_unlock(&s->lock);
}

hdl_err hdl_shadow_open(hdl_shadow **out, hdl_errmsg *why)
{
    *out = NULL;
    hdl_shadow *s = calloc(1, sizeof *s);
    if (!s)
        return hdl_fail(HDL_NOMEM, why, "cannot record; out of memory; free some");
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->change, NULL);
    s->report.same = true;
    s->run.report = &s->report;
    s->run.stop = &s->stop;
    hdl_err err = hdl_thread_start(
        &s->thread,
        &(hdl_thread_opts){.name = "recorder", .role = HDL_ROLE_NONE, .fn = thread_main, .arg = s},
        why);
    if (err != HDL_OK) {
        hdl_shadow_close(s);
        return err;
    }
    *out = s;
    return HDL_OK;
}

void hdl_shadow_close(hdl_shadow *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->stop, true);
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    hdl_thread_join(&s->thread);
    pthread_cond_destroy(&s->change);
    pthread_mutex_destroy(&s->lock);
    hdl_run_core_close(&s->run);
    free(s);
}

void hdl_shadow_follow(hdl_shadow *s, const char *file, const char *state_file)
{
    pthread_mutex_lock(&s->lock);
    HDL_ASSERT_EQ(atomic_load(&s->state), HDL_SHADOW_IDLE);
    snprintf(s->file, sizeof s->file, "%s", file);
    snprintf(s->state_file, sizeof s->state_file, "%s", state_file);
    atomic_store(&s->state, HDL_SHADOW_BUSY);
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
}

hdl_shadow_state hdl_shadow_look(const hdl_shadow *s)
{
    return (hdl_shadow_state)atomic_load(&s->state);
}

void hdl_shadow_wait(hdl_shadow *s)
{
    pthread_mutex_lock(&s->lock);
    while (atomic_load(&s->state) == HDL_SHADOW_BUSY)
        pthread_cond_wait(&s->change, &s->lock);
    pthread_mutex_unlock(&s->lock);
}
