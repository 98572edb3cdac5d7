/* SPDX-License-Identifier: Apache-2.0 */
/* Small arrays of the host that kernels read, as the descriptions of a layer's experts: copied to
 * the device once, and again only when they have changed. So an op launches and nothing else, and
 * what it launches may be recorded.
 *
 * What is kept is found by its place in host memory and compared whole. Ops come in the same order
 * at every step, so the search begins behind what was found last. */
#include "kernels/cuda/cuda.h"

enum { KEPT_MAX = 4096 };

/* A ring; the stream's pointer is the one found last. */
struct gpu_kept {
    gpu_kept *next;
    const void *from;
    size_t bytes;
    void *copy;   /* owned: what the device has */
    void *device; /* owned, the device's */
};

static gpu_kept *find(hdl_stream *s, const void *from, size_t bytes)
{
    gpu_kept *k = s->kept;
    for (uint32_t i = 0; i < s->n_kept; i++) {
        k = k->next;
        if (k->from == from && k->bytes == bytes)
            return s->kept = k;
    }
    return NULL;
}

static void drop(hdl_stream *s, gpu_kept *k)
{
    if (k && k->device)
        hdl_cuda_device_layer.free(s->device, k->device);
    if (k)
        free(k->copy);
    free(k);
}

static gpu_kept *add(hdl_stream *s, const void *from, size_t bytes)
{
    gpu_kept *k = s->n_kept < KEPT_MAX ? (gpu_kept *)calloc(1, sizeof *k) : NULL;
    if (!k)
        return NULL;
    k->from = from;
    k->bytes = bytes;
    k->copy = calloc(1, bytes); /* differs from what any array holds: data is never NULL */
    k->device = hdl_cuda_device_layer.alloc(s->device, bytes);
    if (!k->copy || !k->device) {
        drop(s, k);
        return NULL;
    }
    k->next = s->kept ? s->kept->next : k;
    if (s->kept)
        s->kept->next = k;
    s->kept = k;
    s->n_kept++;
    return k;
}

void *gpu_upload(hdl_stream *s, const void *from, size_t bytes)
{
    gpu_kept *k = find(s, from, bytes);
    if (!k)
        k = add(s, from, bytes);
    if (!k) { /* no room to keep it: for this once */
        void *to = gpu_take(s, bytes);
        (void)hdl_cuda_device_layer.write(s->device, to, from, bytes);
        return to;
    }
    if (memcmp(k->copy, from, bytes) != 0) {
        memcpy(k->copy, from, bytes);
        (void)hdl_cuda_device_layer.write(s->device, k->device, k->copy, bytes);
    }
    return k->device;
}

void gpu_upload_forget(hdl_stream *s)
{
    for (gpu_kept *k = s->kept, *next; s->n_kept > 0; k = next, s->n_kept--) {
        next = k->next;
        drop(s, k);
    }
    s->kept = NULL;
}
