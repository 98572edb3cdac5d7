/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/fiber/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

extern "C" {
#include "base/assert.h"
}

struct region {
    region *next;
    void *at;
    size_t bytes;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static region *regions;
static unsigned n_open;

static void protect(int how)
{
    for (region *r = regions; r; r = r->next)
        HDL_ASSERT(mprotect(r->at, r->bytes, how) == 0);
}

void *fiber_memory_take(size_t bytes)
{
    region *r = (region *)malloc(sizeof *r);
    if (bytes == 0)
        bytes = 1;
    void *at = r ? mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
                 : MAP_FAILED;
    if (at == MAP_FAILED) {
        free(r);
        return NULL;
    }
    pthread_mutex_lock(&lock);
    *r = {regions, at, bytes};
    regions = r;
    if (n_open > 0)
        HDL_ASSERT(mprotect(at, bytes, PROT_READ | PROT_WRITE) == 0);
    pthread_mutex_unlock(&lock);
    return at;
}

void fiber_memory_give(void *ptr)
{
    if (!ptr)
        return;
    pthread_mutex_lock(&lock);
    region **at = &regions;
    while (*at && (*at)->at != ptr)
        at = &(*at)->next;
    region *r = *at;
    HDL_ASSERT(r != NULL); /* not device memory, or freed before */
    *at = r->next;
    pthread_mutex_unlock(&lock);
    munmap(r->at, r->bytes);
    free(r);
}

void fiber_memory_open()
{
    pthread_mutex_lock(&lock);
    if (n_open++ == 0)
        protect(PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&lock);
}

void fiber_memory_close()
{
    pthread_mutex_lock(&lock);
    if (--n_open == 0)
        protect(PROT_NONE);
    pthread_mutex_unlock(&lock);
}
