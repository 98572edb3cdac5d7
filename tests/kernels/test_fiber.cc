/* SPDX-License-Identifier: Apache-2.0 */
/* The fibers themselves: words compute what the GPU's do, and planted faults in kernels are found.
 * Each fault runs in a process of its own, which has to die with the kernel's name. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/gpu.h"

#include "kernels/cuda/fiber/memory.h"

static int failures;

static void check(bool ok, const char *what)
{
    if (!ok) {
        failures++;
        printf("FAIL %s; repeat: heddle_test_fiber\n", what);
    }
}

static hdl_stream stream_of(uint32_t order)
{
    hdl_stream s = {};
    s.order = order;
    return s;
}

/* ---- what must work ---- */

GPU_KERNEL(256) sum_all(const float *x, float *out)
{
    float sum = gpu_block_add(x[gpu_index()], gpu_shared<float>());
    if (gpu_thread() == 0)
        out[gpu_block_x()] = sum;
}

static void test_sum()
{
    float x[512], out[2], want[2] = {0, 0};
    for (int i = 0; i < 512; i++)
        want[i / 256] += x[i] = (float)(i * 7 % 13);
    for (uint32_t order = 0; order < 4; order++) {
        hdl_stream s = stream_of(order);
        gpu_grid g;
        g.x = 2;
        g.shared = 8 * sizeof(float);
        GPU_LAUNCH(&s, g, sum_all, x, out);
        check(memcmp(out, want, sizeof out) == 0, "sums of blocks in any order");
    }
}

/* d += a b with a [16][16], b [8][16] by rows of k; fragments as PTX says. */
GPU_KERNEL(32) multiply(const uint16_t *a, const uint16_t *b, float *d)
{
    uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4, fa[4], fb[2];
    float fd[4] = {1, 1, 1, 1};
    for (uint32_t e = 0; e < 4; e++)
        memcpy(&fa[e], a + (g + e % 2 * 8) * 16 + 2 * t + e / 2 * 8, 4);
    for (uint32_t e = 0; e < 2; e++)
        memcpy(&fb[e], b + g * 16 + 2 * t + e * 8, 4);
    gpu_mma_bf16(fd, fa, fb);
    for (uint32_t e = 0; e < 4; e++)
        d[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = fd[e];
}

GPU_KERNEL(32) multiply_s8(const int8_t *a, const int8_t *b, int32_t *d)
{
    uint32_t g = gpu_lane() / 4, t = gpu_lane() % 4, fa[4], fb[2];
    int32_t fd[4] = {1, 1, 1, 1};
    for (uint32_t e = 0; e < 4; e++)
        memcpy(&fa[e], a + (g + e % 2 * 8) * 32 + 4 * t + e / 2 * 16, 4);
    for (uint32_t e = 0; e < 2; e++)
        memcpy(&fb[e], b + g * 32 + 4 * t + e * 16, 4);
    gpu_mma_s8(fd, fa, fb);
    for (uint32_t e = 0; e < 4; e++)
        d[(g + e / 2 * 8) * 8 + 2 * t + e % 2] = fd[e];
}

static void test_mma()
{
    uint16_t a[16 * 16], b[8 * 16];
    int8_t a8[16 * 32], b8[8 * 32];
    float d[16 * 8];
    int32_t d8[16 * 8];
    hdl_stream s = stream_of(2);
    gpu_grid g;
    g.threads = 32;
    for (int i = 0; i < 16 * 16; i++)
        a[i] = hdl_bf16_from_f32((float)(i * 5 % 17 - 8));
    for (int i = 0; i < 8 * 16; i++)
        b[i] = hdl_bf16_from_f32((float)(i * 3 % 11 - 5));
    for (int i = 0; i < 16 * 32; i++)
        a8[i] = (int8_t)(i * 37 % 255 - 127);
    for (int i = 0; i < 8 * 32; i++)
        b8[i] = (int8_t)(i * 91 % 255 - 127);
    GPU_LAUNCH(&s, g, multiply, a, b, d);
    GPU_LAUNCH(&s, g, multiply_s8, a8, b8, d8);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float want = 1;
            int32_t want8 = 1;
            for (int k = 0; k < 16; k++)
                want += hdl_bf16_to_f32(a[m * 16 + k]) * hdl_bf16_to_f32(b[n * 16 + k]);
            for (int k = 0; k < 32; k++)
                want8 += a8[m * 32 + k] * b8[n * 32 + k];
            check(d[m * 8 + n] == want, "mma of bf16");
            check(d8[m * 8 + n] == want8, "mma of int8");
        }
}

/* out[m][i]: what lane i holds of matrix m, plain and transposed; matrices lie one below the other
 * in rows of 8 numbers. */
GPU_KERNEL(32) fragments(const uint16_t *from, uint32_t (*out)[4][32])
{
    uint16_t *shared = gpu_shared<uint16_t>();
    uint32_t lane = gpu_lane(), plain[4], turned[4];
    memcpy(shared + lane * 8, from + lane * 8, 16);
    gpu_sync();
    gpu_ldmatrix_x4(plain, shared + lane * 8);
    gpu_ldmatrix_x4_trans(turned, shared + lane * 8);
    for (uint32_t m = 0; m < 4; m++) {
        out[0][m][lane] = plain[m];
        out[1][m][lane] = turned[m];
    }
}

static void test_ldmatrix()
{
    uint16_t from[4 * 64];
    uint32_t out[2][4][32];
    hdl_stream s = stream_of(3);
    gpu_grid g;
    g.threads = 32;
    g.shared = sizeof from;
    for (uint32_t i = 0; i < 4 * 64; i++)
        from[i] = (uint16_t)(i * 257);
    GPU_LAUNCH(&s, g, fragments, from, out);
    for (uint32_t m = 0; m < 4; m++)
        for (uint32_t i = 0; i < 32; i++) {
            const uint16_t *matrix = from + m * 64;
            uint32_t row = i / 4, at = i % 4 * 2;
            uint32_t plain = matrix[row * 8 + at] | (uint32_t)matrix[row * 8 + at + 1] << 16;
            uint32_t turned = matrix[at * 8 + row] | (uint32_t)matrix[at * 8 + 8 + row] << 16;
            check(out[0][m][i] == plain, "ldmatrix");
            check(out[1][m][i] == turned, "ldmatrix, transposed");
        }
    check(gpu_pack_bf16(1.0f, -2.00390625f) == 0xc0003f80u, "two floats as bf16, ties to even");
}

/* ---- what must be found ---- */

GPU_KERNEL(256) leaves_early(int)
{
    if (gpu_thread() < 10)
        return;
    gpu_sync();
}

GPU_KERNEL(256) splits_warp(int)
{
    if (gpu_lane() < 16)
        gpu_shfl_xor(1.0f, 1);
    else
        gpu_shfl_xor(1.0f, 2);
}

GPU_KERNEL(256) two_barriers(int)
{
    if (gpu_warp() == 0)
        gpu_sync();
    else
        gpu_sync();
}

GPU_KERNEL(256) writes_beyond(int)
{
    volatile float *shared = gpu_shared<float>();
    shared[gpu_threads()] = 1;
}

GPU_KERNEL(32) forgets_copy(const gpu_u4 *from)
{
    gpu_copy_async(gpu_shared<gpu_u4>() + gpu_thread(), from + gpu_thread());
    gpu_copy_commit();
}

/* The sum is of what the copy has not brought yet. */
GPU_KERNEL(32) reads_early(const gpu_u4 *from, float *out)
{
    float *shared = gpu_shared<float>();
    gpu_copy_async(shared + gpu_thread() * 4, from + gpu_thread());
    gpu_copy_commit();
    out[gpu_thread()] = shared[gpu_thread() * 4];
    gpu_copy_wait<0>();
}

static gpu_u4 zeros[32];

static gpu_grid grid_of(uint32_t threads, size_t shared)
{
    gpu_grid g;
    g.threads = threads;
    g.shared = shared;
    return g;
}

static void run_leaves(hdl_stream *s) { GPU_LAUNCH(s, grid_of(64, 0), leaves_early, 0); }
static void run_splits(hdl_stream *s) { GPU_LAUNCH(s, grid_of(64, 0), splits_warp, 0); }
static void run_barriers(hdl_stream *s) { GPU_LAUNCH(s, grid_of(64, 0), two_barriers, 0); }
static void run_beyond(hdl_stream *s) { GPU_LAUNCH(s, grid_of(64, 256), writes_beyond, 0); }
static void run_forgets(hdl_stream *s) { GPU_LAUNCH(s, grid_of(32, 512), forgets_copy, zeros); }
static void run_host_touch(hdl_stream *s)
{
    (void)s;
    *(volatile char *)fiber_memory_take(64) = 1;
}

/* Dies, and names the kernel where there is one. */
static void expect_death(void (*run)(hdl_stream *), const char *kernel)
{
    int pipe_fds[2], status = 0;
    char text[4096] = {0};
    if (pipe(pipe_fds) != 0)
        return check(false, "a pipe");
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        dup2(pipe_fds[1], 2);
        close(pipe_fds[1]);
        hdl_stream s = stream_of(0);
        run(&s);
        _exit(0);
    }
    close(pipe_fds[1]);
    size_t n = 0;
    for (ssize_t got = 1; got > 0 && n<sizeof text - 1; n += got> 0 ? (size_t)got : 0)
        got = read(pipe_fds[0], text + n, sizeof text - 1 - n);
    close(pipe_fds[0]);
    waitpid(child, &status, 0);
    check(!(WIFEXITED(status) && WEXITSTATUS(status) == 0), kernel);
    if (kernel[0] != '*')
        check(strstr(text, kernel) != NULL, kernel);
}

int main()
{
    float early[32];
    hdl_stream s = stream_of(0);
    test_sum();
    test_mma();
    test_ldmatrix();
    GPU_LAUNCH(&s, grid_of(32, 512), reads_early, zeros, early);
    check(early[0] != 0, "a copy is not seen before it is waited for");
    expect_death(run_leaves, "leaves_early");
    expect_death(run_splits, "splits_warp");
    expect_death(run_barriers, "two_barriers");
    expect_death(run_beyond, "writes_beyond");
    expect_death(run_forgets, "forgets_copy");
    expect_death(run_host_touch, "*the host touches device memory");
    printf("%d failures\n", failures);
    return failures != 0;
}
