/* SPDX-License-Identifier: Apache-2.0 */
/* sim [--seeds N] [--first S] [--bug NAME] [--canary] [--quiet]: runs N seeds from S on; see
 * README.md. */
#include "tests/sim/sim.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "scheduler/core/plant.h"

typedef struct options {
    uint64_t seeds, first;
    hdl_bug bug;
    bool canary, quiet;
} options;

static sigjmp_buf crashed;
static sim_world world;

static void on_crash(int sig) { siglongjmp(crashed, sig); }

static hdl_bug bug_of(const char *name)
{
#define BUG_MATCH(id, text, what)                                                                  \
    if (strcmp(name, text) == 0)                                                                   \
        return HDL_BUG_##id;
    HDL_BUG_LIST(BUG_MATCH)
    return HDL_BUG_NONE;
}

static int usage(void)
{
    fprintf(stderr, "usage: sim [--seeds N] [--first S] [--bug NAME] [--canary] [--quiet]\n"
                    "bugs that can be planted (sim_planted only):\n");
#define BUG_PRINT(id, text, what) fprintf(stderr, "  %-18s %s\n", text, what);
    HDL_BUG_LIST(BUG_PRINT)
    return 2;
}

static bool parse(options *o, int argc, char **argv)
{
    *o = (options){.seeds = 2000, .first = 1};
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(arg, "--canary") == 0)
            o->canary = true;
        else if (strcmp(arg, "--quiet") == 0)
            o->quiet = true;
        else if (!value)
            return false;
        else if (strcmp(arg, "--seeds") == 0)
            o->seeds = strtoull(argv[++i], NULL, 10);
        else if (strcmp(arg, "--first") == 0)
            o->first = strtoull(argv[++i], NULL, 10);
        else if (strcmp(arg, "--bug") == 0 && bug_of(value) != HDL_BUG_NONE)
            o->bug = bug_of(argv[++i]);
        else
            return false;
    }
#ifndef HDL_PLANT_BUGS
    return o->bug == HDL_BUG_NONE;
#else
    return true;
#endif
}

/* A failed assertion of the core is a finding like any other. */
static const char *run_seed(uint64_t seed)
{
    int sig = sigsetjmp(crashed, 1);
    if (sig != 0)
        return sig == SIGABRT ? "an assertion of the core failed" : "the core crashed";
    return sim_run(&world, seed);
}

typedef struct totals {
    uint64_t events, plans, preemptions, requeues, hits, copies, forks, evictions, stale, bad,
        emitted, releases, snapshots, restores, guesses, held;
} totals;

static void add_totals(totals *t)
{
    hdl_sched_stats st;
    hdl_sched_read_stats(world.sched, &st);
    t->events += world.n_events;
    t->plans += st.plans;
    t->preemptions += st.preemptions;
    t->requeues += st.requeues;
    t->hits += st.prefix_hit_tokens;
    t->copies += st.block_copies;
    t->forks += st.forks_shared;
    t->evictions += st.prefix_evictions;
    t->stale += st.stale_results;
    t->bad += st.bad_results;
    t->emitted += st.emitted_tokens;
    t->releases += st.window_releases;
    t->snapshots += st.snapshots;
    t->restores += st.restores;
    t->guesses += st.guesses;
    t->held += st.guesses_held;
}

/* The same seed must give the same run, and so must a replay of what was recorded of it. */
static const char *run_again(uint64_t seed)
{
    uint64_t first = world.digest;
    world.records = true;
    const char *why = run_seed(seed);
    world.records = false;
    if (!why && world.digest != first)
        why = "the same seed gave two different runs";
    return why ? why : sim_replay(&world);
}

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static int expect_found(const options *o)
{
    for (uint64_t n = 0; n < o->seeds; n++) {
        const char *why = run_seed(o->first + n);
        if (why) {
            printf("found after %llu seeds: %s\n", (unsigned long long)(n + 1), why);
            return 0;
        }
    }
    printf("NOT FOUND in %llu seeds\n", (unsigned long long)o->seeds);
    return 1;
}

int main(int argc, char **argv)
{
    options o;
    if (!parse(&o, argc, argv))
        return usage();
    signal(SIGABRT, on_crash);
    world.canary = o.canary;
    world.bug = (int)o.bug;
    if (o.bug != HDL_BUG_NONE || o.canary) {
        signal(SIGSEGV, on_crash);
        if (!freopen("/dev/null", "w", stderr))
            return 1;
        return expect_found(&o);
    }
    totals t = {0};
    uint64_t digest = 0;
    double start = seconds();
    for (uint64_t seed = o.first; seed < o.first + o.seeds; seed++) {
        const char *why = run_seed(seed);
        if (!why && seed % 8 == 0)
            why = run_again(seed);
        if (why) {
            printf("FAIL seed %llu: %s\nreproduce: sim --seeds 1 --first %llu\n",
                   (unsigned long long)seed, why, (unsigned long long)seed);
            return 1;
        }
        digest = hdl_hash_combine(digest, world.digest);
        add_totals(&t);
    }
    double took = seconds() - start;
    printf("%llu seeds passed, digest %016llx\n", (unsigned long long)o.seeds,
           (unsigned long long)digest);
    if (!o.quiet)
        printf("%llu events, %llu plans, %llu tokens emitted, %llu preemptions, %llu requeues, "
               "%llu prefix tokens hit, "
               "%llu evictions, %llu forks shared, %llu copies, %llu blocks out of windows, "
               "%llu snapshots, %llu restored, %llu guesses, %llu came true, %llu stale and %llu "
               "bad results; %.0f seeds/s\n",
               (unsigned long long)t.events, (unsigned long long)t.plans,
               (unsigned long long)t.emitted, (unsigned long long)t.preemptions,
               (unsigned long long)t.requeues, (unsigned long long)t.hits,
               (unsigned long long)t.evictions, (unsigned long long)t.forks,
               (unsigned long long)t.copies, (unsigned long long)t.releases,
               (unsigned long long)t.snapshots, (unsigned long long)t.restores,
               (unsigned long long)t.guesses, (unsigned long long)t.held,
               (unsigned long long)t.stale, (unsigned long long)t.bad, (double)o.seeds / took);
    sim_world_free(&world);
    return 0;
}
