/* SPDX-License-Identifier: Apache-2.0 */
/* The vocabulary of gpu.h on the host: each thread of a block is a fiber with a stack of its own,
 * one block after the other on the calling thread. Included by gpu.h alone.
 *
 * What is checked, always: all threads of a block reach the same barrier, all lanes of a warp the
 * same warp word (told by its line), nobody leaves while others wait, copies are not seen before
 * they are waited for, nothing is written beyond the shared memory. A violation prints the kernel,
 * the block, the thread and the line, and aborts. Races show because the order of threads and
 * blocks can be turned around (hdl_stream.order): a kernel must give the same bits in every order.
 */
#pragma once

#include <new>
#include <tuple>
#include <utility>

#define GPU_KERNEL(threads) static void
#define GPU_DEVICE          static inline
#define GPU_UNROLL
#define GPU_UNROLL_2
#define GPU_UNROLL_1

/* Where a word stands in the kernel. */
#define FIBER_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
struct fiber_site {
    const char *file;
    int line;
};

/* The running fiber's place; fiber.cc sets it at each switch. */
struct fiber_place {
    uint32_t thread, threads, block[3], blocks[3];
    void *shared;
};
extern fiber_place fiber_now;

GPU_DEVICE uint32_t gpu_thread() { return fiber_now.thread; }
GPU_DEVICE uint32_t gpu_threads() { return fiber_now.threads; }
GPU_DEVICE uint32_t gpu_block_x() { return fiber_now.block[0]; }
GPU_DEVICE uint32_t gpu_block_y() { return fiber_now.block[1]; }
GPU_DEVICE uint32_t gpu_block_z() { return fiber_now.block[2]; }
GPU_DEVICE uint32_t gpu_blocks_x() { return fiber_now.blocks[0]; }
template <class T> GPU_DEVICE T *gpu_shared() { return (T *)fiber_now.shared; }

/* Waits for all threads of the block. */
void fiber_block_sync(fiber_site at);

/* What a lane brings to a warp word, and takes from it. */
struct fiber_lane {
    uint32_t in[10], out[4];
};
/* Waits for all lanes; the last to come runs `word` over the n lanes. */
typedef void fiber_word(fiber_lane *lanes, uint32_t n);
fiber_lane *fiber_lane_mine();
void fiber_warp_word(fiber_word *word, fiber_site at);

extern fiber_word fiber_word_sync, fiber_word_shfl, fiber_word_xor, fiber_word_ballot,
    fiber_word_ldmatrix, fiber_word_ldmatrix_trans, fiber_word_mma_bf16, fiber_word_mma_f16,
    fiber_word_mma_s8, fiber_word_mma_s8_k16;

void fiber_copy_async(void *to, const void *from, fiber_site at);
void fiber_copy_commit();
void fiber_copy_wait(uint32_t n);

GPU_DEVICE void gpu_sync(FIBER_HERE) { fiber_block_sync({file, line}); }
GPU_DEVICE void gpu_warp_sync(FIBER_HERE) { fiber_warp_word(fiber_word_sync, {file, line}); }

template <class T> T fiber_exchange(fiber_word *word, T v, uint32_t with, fiber_site at)
{
    static_assert(sizeof(T) == 4, "warp words exchange 4 bytes");
    fiber_lane *lane = fiber_lane_mine();
    memcpy(&lane->in[0], &v, 4);
    lane->in[1] = with;
    fiber_warp_word(word, at);
    memcpy(&v, &lane->out[0], 4);
    return v;
}
template <class T> GPU_DEVICE T gpu_shfl(T v, uint32_t lane, FIBER_HERE)
{
    return fiber_exchange(fiber_word_shfl, v, lane, {file, line});
}
template <class T> GPU_DEVICE T gpu_shfl_xor(T v, uint32_t mask, FIBER_HERE)
{
    return fiber_exchange(fiber_word_xor, v, mask, {file, line});
}
GPU_DEVICE uint32_t gpu_ballot(bool flag, FIBER_HERE)
{
    return fiber_exchange(fiber_word_ballot, (uint32_t)flag, 0, {file, line});
}

/* Fibers run one at a time. */
GPU_DEVICE uint32_t gpu_atomic_add(uint32_t *p, uint32_t v)
{
    uint32_t old = *p;
    *p = old + v;
    return old;
}

GPU_DEVICE uint32_t gpu_permute(uint32_t a, uint32_t b, uint32_t sel)
{
    uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++)
        out |= (uint32_t)(bytes >> (sel >> 4 * i & 7) * 8 & 0xff) << 8 * i;
    return out;
}

GPU_DEVICE void gpu_copy_async(void *to, const void *from, FIBER_HERE)
{
    fiber_copy_async(to, from, {file, line});
}
GPU_DEVICE void gpu_copy_commit() { fiber_copy_commit(); }
template <int n> GPU_DEVICE void gpu_copy_wait() { fiber_copy_wait(n); }

GPU_DEVICE void gpu_ldmatrix_x4(uint32_t r[4], const void *row, FIBER_HERE)
{
    fiber_lane *lane = fiber_lane_mine();
    memcpy(&lane->in[0], &row, sizeof row);
    fiber_warp_word(fiber_word_ldmatrix, {file, line});
    memcpy(r, lane->out, 16);
}

GPU_DEVICE void gpu_ldmatrix_x4_trans(uint32_t r[4], const void *row, FIBER_HERE)
{
    fiber_lane *lane = fiber_lane_mine();
    memcpy(&lane->in[0], &row, sizeof row);
    fiber_warp_word(fiber_word_ldmatrix_trans, {file, line});
    memcpy(r, lane->out, 16);
}
GPU_DEVICE uint32_t gpu_pack_bf16(float low, float high)
{
    return hdl_bf16_from_f32(low) | (uint32_t)hdl_bf16_from_f32(high) << 16;
}

template <int n_a, int n_b, class D>
void fiber_mma(fiber_word *word, D d[4], const uint32_t *a, const uint32_t *b, fiber_site at)
{
    fiber_lane *lane = fiber_lane_mine();
    memcpy(&lane->in[0], d, 16);
    memcpy(&lane->in[4], a, n_a * 4);
    memcpy(&lane->in[8], b, n_b * 4);
    fiber_warp_word(word, at);
    memcpy(d, lane->out, 16);
}
GPU_DEVICE void gpu_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], FIBER_HERE)
{
    fiber_mma<4, 2>(fiber_word_mma_bf16, d, a, b, {file, line});
}
GPU_DEVICE void gpu_mma_f16(float d[4], const uint32_t a[4], const uint32_t b[2], FIBER_HERE)
{
    fiber_mma<4, 2>(fiber_word_mma_f16, d, a, b, {file, line});
}
GPU_DEVICE void gpu_mma_s8(int32_t d[4], const uint32_t a[4], const uint32_t b[2], FIBER_HERE)
{
    fiber_mma<4, 2>(fiber_word_mma_s8, d, a, b, {file, line});
}
GPU_DEVICE void gpu_mma_s8_k16(int32_t d[4], const uint32_t a[2], const uint32_t b[1], FIBER_HERE)
{
    fiber_mma<2, 1>(fiber_word_mma_s8_k16, d, a, b, {file, line});
}

/* Runs all blocks; body(args) is the kernel for one thread. */
typedef void fiber_body(void *args);
struct fiber_run {
    const char *kernel;
    gpu_grid grid;
    uint32_t order;
    fiber_body *body;
    void *args;
};
void fiber_launch(const fiber_run *run);

/* What is recorded of a graph, in order. */
struct fiber_note {
    fiber_note *next;
    hdl_err (*run)(fiber_note *note);
};
struct fiber_notes {
    fiber_note *first, *last;
};

/* Does f() -> hdl_err now, or notes it where the stream is being recorded. */
template <class F> static hdl_err fiber_do(hdl_stream *s, F f)
{
    struct noted : fiber_note {
        F f;
        explicit noted(F with) : fiber_note{}, f(with) {}
    };
    if (!s || !s->notes)
        return f();
    void *memory = malloc(sizeof(noted));
    HDL_ASSERT(memory != NULL);
    noted *n = new (memory) noted(f);
    n->run = [](fiber_note *note) { return ((noted *)note)->f(); };
    (s->notes->last ? s->notes->last->next : s->notes->first) = n;
    s->notes->last = n;
    return HDL_OK;
}

template <class... P, class... A>
static void gpu_launch(hdl_stream *s, const char *name, gpu_grid g, void (*kernel)(P...), A... args)
{
    struct call {
        void (*kernel)(P...);
        std::tuple<P...> args;
    } c = {kernel, std::tuple<P...>((P)args...)};
    uint32_t order = s->order;
    (void)fiber_do(s, [name, g, order, c]() {
        call mine = c;
        fiber_run run = {name, g, order,
                         [](void *arg) {
                             call *it = (call *)arg;
                             std::apply(it->kernel, it->args);
                         },
                         &mine};
        fiber_launch(&run);
        return HDL_OK;
    });
}
#define GPU_LAUNCH(stream, grid, kernel, ...) gpu_launch(stream, #kernel, grid, kernel, __VA_ARGS__)
