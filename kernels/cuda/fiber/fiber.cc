/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks of threads as fibers: stacks, switching, barriers, and what is checked about them.
 *
 * A fiber runs until it must wait, then hands the processor to the next one that can run, in the
 * order of the run; nothing is preempted, so that a run with the same order repeats exactly. Owner:
 * whoever holds the launch lock; one launch at a time in the process. */
#include <pthread.h>
#include <sys/mman.h>

#include "kernels/cuda/gpu.h"

#include "kernels/cuda/fiber/context.h"
#include "kernels/cuda/fiber/memory.h"

enum {
    THREADS_MAX = 1024,
    STACK_BYTES = 128 * 1024, /* sanitizers make frames large */
    PAGE_BYTES = 4096,
    COPIES_MAX = 64, /* asynchronous copies of a thread that may be under way */
    GUARD_BYTES = 64,
    GUARD = 0xa7,
};

typedef enum fiber_state { READY, AT_BLOCK, AT_WARP, DONE } fiber_state;

struct copy_job {
    void *to;
    const void *from;
    uint32_t group;
};

struct fiber {
    fiber_context context;
    fiber_state state;
    uint32_t thread, n_copies, group, place; /* group: of copies not yet committed */
    copy_job copies[COPIES_MAX];
};

struct warp_wait {
    uint32_t arrived, alive;
    fiber_site site;
    fiber_word *word;
    fiber_lane lanes[GPU_WARP];
};

struct block_state {
    const fiber_run *run;
    uint32_t n, alive, arrived;
    fiber_site site; /* of the block's barrier */
    uint32_t order[THREADS_MAX];
    fiber *now;
    fiber fibers[THREADS_MAX];
    warp_wait warps[THREADS_MAX / GPU_WARP];
    fiber_context home; /* of fiber_launch */
    unsigned char *stacks;
};

fiber_place fiber_now;
static block_state block;
static pthread_mutex_t launch_lock = PTHREAD_MUTEX_INITIALIZER;

/* Ends the program: a kernel is wrong. */
HDL_NORETURN static void broken(const char *what, fiber_site at)
{
    fprintf(stderr, "fiber: kernel %s, block (%u, %u, %u), thread %u of %u: %s; %s:%d\n",
            block.run->kernel, fiber_now.block[0], fiber_now.block[1], fiber_now.block[2],
            fiber_now.thread, fiber_now.threads, what, at.file, at.line);
    hdl_assert_fail(at.file, at.line, what);
}

static bool same_site(fiber_site a, fiber_site b)
{
    return a.line == b.line && strcmp(a.file, b.file) == 0;
}

/* ---- switching ---- */

static void switch_to(fiber *next)
{
    fiber *from = block.now;
    block.now = next;
    fiber_now.thread = next->thread;
    fiber_context_switch(&from->context, &next->context);
}

/* The next fiber after this one, in order, that can run; NULL: none. */
static fiber *next_ready()
{
    uint32_t at = block.now->place;
    for (uint32_t i = 1; i <= block.n; i++) {
        fiber *f = &block.fibers[block.order[(at + i) % block.n]];
        if (f->state == READY)
            return f;
    }
    return NULL;
}

/* The running fiber waits in its new state; somebody else has to make it READY again. */
static void wait_as(fiber_state state, fiber_site at)
{
    fiber *me = block.now;
    me->state = state;
    fiber *next = next_ready();
    if (!next)
        broken("waits for threads that wait elsewhere, or that have left", at);
    switch_to(next);
}

static void entry()
{
    fiber_context_entered(&block.now->context);
    block.run->body(block.run->args);
    fiber *me = block.now;
    fiber_site nowhere = {"end of the kernel", 0};
    if (me->n_copies != 0)
        broken("leaves with asynchronous copies that were never waited for", nowhere);
    if (block.arrived != 0)
        broken("leaves while others wait at the block's barrier", block.site);
    warp_wait *w = &block.warps[me->thread / GPU_WARP];
    if (w->arrived != 0)
        broken("leaves while others of its warp wait", w->site);
    w->alive--;
    block.alive--;
    me->state = DONE;
    if (block.alive == 0)
        fiber_context_leave(&me->context, &block.home);
    fiber *next = next_ready();
    if (!next)
        broken("leaves, and nobody can run", nowhere);
    block.now = next;
    fiber_now.thread = next->thread;
    fiber_context_leave(&me->context, &next->context);
}

/* ---- words ---- */

void fiber_block_sync(fiber_site at)
{
    if (block.alive != block.n)
        broken("a barrier after some threads have left", at);
    if (block.arrived == 0)
        block.site = at;
    else if (!same_site(block.site, at))
        broken("a barrier at another place than the others' one", at);
    if (++block.arrived < block.n) {
        wait_as(AT_BLOCK, at);
        return;
    }
    block.arrived = 0;
    for (uint32_t i = 0; i < block.n; i++)
        block.fibers[i].state = READY;
}

fiber_lane *fiber_lane_mine()
{
    uint32_t thread = fiber_now.thread;
    return &block.warps[thread / GPU_WARP].lanes[thread % GPU_WARP];
}

void fiber_warp_word(fiber_word *word, fiber_site at)
{
    uint32_t first = fiber_now.thread / GPU_WARP * GPU_WARP;
    uint32_t lanes = hdl_min_u32(GPU_WARP, block.n - first);
    warp_wait *w = &block.warps[first / GPU_WARP];
    if (w->alive != lanes)
        broken("a warp's word after some lanes have left", at);
    if (w->arrived == 0) {
        w->site = at;
        w->word = word;
    } else if (w->word != word || !same_site(w->site, at)) {
        broken("another word than the other lanes of the warp", at);
    }
    if (++w->arrived < lanes) {
        wait_as(AT_WARP, at);
        return;
    }
    w->arrived = 0;
    word(w->lanes, lanes);
    for (uint32_t i = first; i < first + lanes; i++)
        block.fibers[i].state = READY;
}

/* The copy happens when it is waited for: who looks earlier sees what was there before. */
void fiber_copy_async(void *to, const void *from, fiber_site at)
{
    fiber *me = block.now;
    if ((uintptr_t)to % 16 != 0 || (uintptr_t)from % 16 != 0)
        broken("an asynchronous copy that is not aligned to 16 bytes", at);
    if (me->n_copies == COPIES_MAX)
        broken("too many asynchronous copies under way", at);
    me->copies[me->n_copies++] = {to, from, me->group};
}

void fiber_copy_commit() { block.now->group++; }

void fiber_copy_wait(uint32_t n)
{
    fiber *me = block.now;
    uint32_t left = 0;
    for (uint32_t i = 0; i < me->n_copies; i++) {
        copy_job job = me->copies[i];
        if (job.group + n < me->group)
            memcpy(job.to, job.from, 16);
        else
            me->copies[left++] = job;
    }
    me->n_copies = left;
}

/* ---- launches ---- */

/* i-th of n in the order that was asked for. */
static uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void order_threads(uint32_t order)
{
    for (uint32_t i = 0; i < block.n; i++)
        block.order[i] = order == 1 ? block.n - 1 - i : i;
    for (uint32_t i = block.n - 1; order > 1 && i > 0; i--) {
        uint32_t j = (uint32_t)(mixed((uint64_t)order << 32 | i) % (i + 1)), swap = block.order[i];
        block.order[i] = block.order[j];
        block.order[j] = swap;
    }
    for (uint32_t i = 0; i < block.n; i++)
        block.fibers[block.order[i]].place = i;
}

static void run_block()
{
    uint32_t n_warps = gpu_div_up(block.n, GPU_WARP);
    block.alive = block.n;
    block.arrived = 0;
    for (uint32_t i = 0; i < n_warps; i++) {
        block.warps[i].arrived = 0;
        block.warps[i].alive = hdl_min_u32(GPU_WARP, block.n - i * GPU_WARP);
    }
    for (uint32_t i = 0; i < block.n; i++) {
        fiber *f = &block.fibers[i];
        f->state = READY;
        f->thread = i;
        f->n_copies = f->group = 0;
        unsigned char *stack = block.stacks + (size_t)i * STACK_BYTES + PAGE_BYTES;
        fiber_context_init(&f->context, stack, STACK_BYTES - PAGE_BYTES, entry);
    }
    block.now = &block.fibers[block.order[0]];
    fiber_now.thread = block.now->thread;
    fiber_context_switch(&block.home, &block.now->context);
}

/* Stacks for all threads with a page below each that no one may touch; taken once. */
static void take_stacks()
{
    if (block.stacks)
        return;
    size_t bytes = (size_t)THREADS_MAX * STACK_BYTES;
    void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    HDL_ASSERT(mem != MAP_FAILED);
    block.stacks = (unsigned char *)mem;
    for (size_t i = 0; i < THREADS_MAX; i++)
        HDL_ASSERT(mprotect(block.stacks + i * STACK_BYTES, PAGE_BYTES, PROT_NONE) == 0);
}

static void run_blocks(const fiber_run *run, unsigned char *shared)
{
    const gpu_grid *g = &run->grid;
    uint64_t n = (uint64_t)g->x * g->y * g->z;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = run->order == 1 ? n - 1 - i : i;
        if (run->order > 1) /* a prime larger than n: every block once */
            at = (i * 2654435761u + run->order) % n;
        fiber_now.block[0] = (uint32_t)(at % g->x);
        fiber_now.block[1] = (uint32_t)(at / g->x % g->y);
        fiber_now.block[2] = (uint32_t)(at / g->x / g->y);
        memset(shared, 0xff, g->shared);
        memset(shared + g->shared, GUARD, GUARD_BYTES);
        run_block();
        for (uint32_t k = 0; k < GUARD_BYTES; k++)
            if (shared[g->shared + k] != GUARD)
                broken("a write beyond the shared memory", {"end of the block", 0});
    }
}

void fiber_launch(const fiber_run *run)
{
    const gpu_grid *g = &run->grid;
    if (g->x == 0 || g->y == 0 || g->z == 0)
        return;
    pthread_mutex_lock(&launch_lock);
    take_stacks();
    block.run = run;
    block.n = g->threads;
    fiber_now.threads = g->threads;
    fiber_now.blocks[0] = g->x;
    fiber_now.blocks[1] = g->y;
    fiber_now.blocks[2] = g->z;
    fiber_site here = {__FILE__, __LINE__};
    if (g->threads == 0 || g->threads > THREADS_MAX || g->y > 65535 || g->z > 65535 ||
        g->x > 0x7fffffff)
        broken("a launch beyond what a GPU can do", here);
    if (g->shared > 96 * 1024)
        broken("more shared memory than every supported GPU has", here);
    unsigned char *shared =
        (unsigned char *)aligned_alloc(128, (g->shared + GUARD_BYTES + 127) / 128 * 128);
    HDL_ASSERT(shared != NULL);
    fiber_now.shared = shared;
    order_threads(run->order);
    fiber_memory_open();
    run_blocks(run, shared);
    fiber_memory_close();
    free(shared);
    pthread_mutex_unlock(&launch_lock);
}
