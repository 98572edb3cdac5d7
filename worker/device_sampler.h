/* SPDX-License-Identifier: Apache-2.0 */
/* Sampling on a device with memory of its own: op `sample`, the state of all slots that it keeps
 * there, and the ring through which results come to the host while the next step is under way.
 *
 * Invariant: HDL_UPLOADS steps at most are under way; entry `turn` of the ring belongs to the step
 * that was fetched with it until the next fetch with the same turn. Owner: the worker, on its step
 * thread. Nothing allocates after open. */
#pragma once

#include "worker/sampler.h"
#include "worker/upload.h"

typedef struct hdl_sample_ring {
    hdl_result_row *rows;    /* pinned [n_tasks_max] */
    hdl_logprob *probs;      /* pinned [n_tasks_max, HDL_ROW_PROBS_MAX] */
    hdl_plugin_event *event; /* owned: they are there */
} hdl_sample_ring;

typedef struct hdl_device_sampler {
    hdl_device *device; /* borrowed; NULL: not open */
    const hdl_plugin *plugin;
    uint32_t n_tasks_max, n_logits_max, vocab, n_ranks;
    void *memory; /* owned, of the device */
    size_t memory_bytes;
    hdl_sample_state state; /* .last: the first of n_ranks parts, of which the others are never
                               read: so one all_gather gives all ranks what rank 0 has */
    void *work;
    hdl_result_row *rows; /* of the device, as the ring's */
    hdl_logprob *probs;
    void *pinned; /* owned */
    size_t pinned_bytes;
    hdl_sample_ring ring[HDL_UPLOADS];
} hdl_device_sampler;

typedef struct hdl_device_sampler_opts {
    hdl_device *device;
    uint32_t max_seqs, max_len, vocab;
    uint32_t n_ranks;
    uint32_t n_tasks_max;  /* of a step */
    uint32_t n_logits_max; /* of one run */
} hdl_device_sampler_opts;
hdl_err hdl_device_sampler_open(hdl_device_sampler *out, const hdl_device_sampler_opts *opts,
                                hdl_errmsg *why) HDL_MUST_CHECK;
/* Of the device, that open will take. */
size_t hdl_device_sampler_bytes(const hdl_device_sampler_opts *opts);
void hdl_device_sampler_close(hdl_device_sampler *s);

/* As hdl_sampler_set, for the steps to come. */
hdl_err hdl_device_sampler_set(hdl_device_sampler *s,
                               const hdl_sampler_tenant *tenant) HDL_MUST_CHECK;

/* Results `at` to at + n of the step, from as many rows of logits, all on the device. */
typedef struct hdl_device_sample {
    const float *logits;          /* [n, vocab] */
    const hdl_sample_task *tasks; /* [n] */
    uint32_t at, n;
} hdl_device_sample;
void hdl_device_sampler_run(hdl_device_sampler *s, const hdl_device_sample *run);

/* Collective of the devices: what rank 0 sampled last, to all. */
hdl_err hdl_device_sampler_share(hdl_device_sampler *s, const hdl_plugin_colls *colls,
                                 hdl_plugin_coll *world) HDL_MUST_CHECK;

/* Sends the first n results on their way to the host. */
typedef struct hdl_sample_fetch {
    uint32_t turn, n;
    bool probs;
} hdl_sample_fetch;
hdl_err hdl_device_sampler_fetch(hdl_device_sampler *s,
                                 const hdl_sample_fetch *fetch) HDL_MUST_CHECK;
/* Are they there? Then wait does not wait; it tells of the device's errors, too. */
bool hdl_device_sampler_done(const hdl_device_sampler *s, uint32_t turn);
hdl_err hdl_device_sampler_wait(const hdl_device_sampler *s, uint32_t turn) HDL_MUST_CHECK;
